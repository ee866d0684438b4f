//! The forward of new tokens of texts that have a cache.

use super::Engine;
use crate::backend::{DecodeRows, DeviceError};
use crate::real::Real;

impl<E: Real> Engine<E> {
    /// Reads new tokens of texts and gives the logits `(V)` of each row wanted to `visit(row, logits)`, in the order asked for.
    ///
    /// # Errors
    /// [`DeviceError`] when the device fails.
    ///
    /// # Panics
    /// When the rows do not fit the engine, or it is not made for decoding.
    pub(crate) fn decode(
        &mut self,
        new: &DecodeRows,
        wanted: &[u32],
        visit: &mut dyn FnMut(usize, &[E]),
    ) -> Result<(), DeviceError> {
        assert!(self.spec.decodes() && new.tokens.len() <= self.spec.rows, "engine: made for other rows");
        let rows = new.tokens.len();
        self.dropout_seed = None;
        self.backend.load_decode(new);
        for layer in 0..self.model.shape().layers {
            self.layer_forward(layer, rows);
        }
        self.last_norm(rows);
        let (width, vocabulary) = (self.model.shape().width, self.model.shape().vocabulary);
        let mut out = vec![E::ZERO; wanted.len().min(self.buffers.chunk) * vocabulary];
        for rows_wanted in wanted.chunks(self.buffers.chunk) {
            let count = rows_wanted.len();
            // What a half layer adds is not needed any more: its buffer takes the chosen rows.
            let chosen = self.buffers.delta.first(count * width);
            self.backend.gather(self.buffers.last_normed.first(rows * width), rows_wanted, chosen);
            let logits = self.project_head(chosen, count);
            let out = &mut out[..count * vocabulary];
            self.backend.download(logits, out)?;
            for (&row, logits) in rows_wanted.iter().zip(out.chunks_exact(vocabulary)) {
                visit(row as usize, logits);
            }
        }
        Ok(())
    }
}
