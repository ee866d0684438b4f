//! The operations: what each kernel is given. Every launch stands here once, behind checks of its operands' types and extents.

use super::Gpu;
use super::arguments as of;
use super::arguments::DeviceJudgement;
use super::backend::HEAD_ROWS;
use super::device::{Access, Address, Device, DeviceError, DeviceProduct};
use super::kernels;
use super::operands::Table;
use crate::backend::{
    AdamWStep, ArenaPlan, Attention, AttentionBackward, Backend, Buffer, CachedAttention, CrossEntropy, DecodeRows, Draw,
    Dropout, Dtype, ElementBytes, Extent, Judgement, Limits, Moments, Norm, NormBackward, Pass, Product, Ticket, Turn, Weights,
};
use crate::batch::Batch;
use crate::ops::split::Halves;
use crate::random::{Purpose, Stream};

use Access::{Read, Update, Write};

/// Packs of 8 elements, as kernels count them.
///
/// # Panics
/// When there are 2^32, of 64 GiB: no buffer of a card has as many.
pub(super) fn packs_of(packs: usize) -> u32 {
    u32::try_from(packs).expect("a buffer of activations is below 64 GiB")
}

impl<D: Device> Backend<f32> for Gpu<D> {
    fn element_bytes(&self) -> ElementBytes {
        ElementBytes { f32: Dtype::F32.device_bytes(), bf16: Dtype::Bf16.device_bytes() }
    }

    fn works_ahead(&self) -> bool {
        true
    }

    fn choices(&self) -> Option<serde_json::Value> {
        self.device.choices()
    }

    fn take_warnings(&mut self) -> Vec<String> {
        self.device.take_warnings()
    }

    fn computes_in(&self, dtype: Dtype) -> bool {
        dtype == Dtype::Bf16
    }

    fn plan_scratch(&mut self, plan: &mut ArenaPlan, extent: Extent) {
        self.plan_tables(plan, extent);
    }

    fn allocate(&mut self, plan: &ArenaPlan) -> Result<(), DeviceError> {
        self.allocate_arena(plan)
    }

    fn head_rows(&self, _vocabulary: usize) -> usize {
        HEAD_ROWS
    }

    fn upload(&mut self, to: Buffer, values: &[f32]) {
        assert_eq!(values.len(), to.length(), "upload: values");
        let address = self.address(to);
        match to.dtype() {
            Dtype::F32 => self.device.upload(address, bytemuck::cast_slice(values)),
            Dtype::Bf16 => {
                let narrow: Vec<u16> = values.iter().map(|value| half::bf16::from_f32(*value).to_bits()).collect();
                self.device.upload(address, bytemuck::cast_slice(&narrow));
            }
            Dtype::Remainder => panic!("upload: remainders come with their weights"),
        }
    }

    fn download(&mut self, from: Buffer, out: &mut [f32]) -> Result<(), DeviceError> {
        let ticket = self.fetch(from);
        self.collect(ticket, out)
    }

    fn upload_weights(&mut self, to: Weights, values: &[f32]) {
        let Weights::Split { working, remainder } = to else { return self.upload(to.working(), values) };
        assert_eq!(values.len(), to.length(), "upload: weights");
        let halves = |value: &f32| {
            let Halves { working, remainder } = Halves::of(*value);
            (working, remainder)
        };
        let (upper, lower): (Vec<u16>, Vec<u16>) = values.iter().map(halves).unzip();
        for (buffer, bits) in [(working, upper), (remainder, lower)] {
            let address = self.address(buffer);
            self.device.upload(address, bytemuck::cast_slice(&bits));
        }
    }

    fn download_weights(&mut self, from: Weights, out: &mut [f32]) -> Result<(), DeviceError> {
        let Weights::Split { working, remainder } = from else { return self.download(from.working(), out) };
        let asked = [working, remainder].map(|buffer| {
            let address = self.address(buffer);
            self.device.fetch(address, buffer.length() * buffer.dtype().device_bytes())
        });
        let mut halves = [(); 2].map(|()| vec![0_u16; out.len()]);
        for (ticket, bits) in asked.into_iter().zip(&mut halves) {
            self.device.collect(ticket, bytemuck::cast_slice_mut(bits))?;
        }
        let [working, remainder] = halves;
        for (out, (working, remainder)) in out.iter_mut().zip(working.into_iter().zip(remainder)) {
            *out = Halves { working, remainder }.whole();
        }
        Ok(())
    }

    fn fetch(&mut self, from: Buffer) -> Ticket {
        let address = self.address(from);
        let wide = u64::from(from.dtype() == Dtype::F32);
        Ticket(self.device.fetch(address, from.length() * from.dtype().device_bytes()) << 1 | wide)
    }

    fn collect(&mut self, ticket: Ticket, out: &mut [f32]) -> Result<(), DeviceError> {
        if ticket.0 & 1 == 1 {
            return self.device.collect(ticket.0 >> 1, bytemuck::cast_slice_mut(out));
        }
        let mut narrow = vec![0_u16; out.len()];
        self.device.collect(ticket.0 >> 1, bytemuck::cast_slice_mut(&mut narrow))?;
        for (out, bits) in out.iter_mut().zip(narrow) {
            *out = half::bf16::from_bits(bits).to_f32();
        }
        Ok(())
    }

    fn zero(&mut self, buffer: Buffer) {
        let address = self.address(buffer);
        self.device.clear(address, buffer.length() * buffer.dtype().device_bytes());
    }

    fn convert(&mut self, from: Buffer, to: Buffer) {
        let length = from.length();
        let mut operands = self.operands();
        let kernel = match (from.dtype(), to.dtype()) {
            (Dtype::F32, Dtype::Bf16) => kernels::NARROW,
            (Dtype::Bf16, Dtype::F32) => kernels::WIDEN,
            (same, _) => {
                assert_eq!(to.length(), length, "convert: values");
                let (from, to) = (self.address(from), self.address(to));
                return self.device.copy(from, to, length * same.device_bytes());
            }
        };
        assert!(length.is_multiple_of(8), "convert: {length} values, no multiple of 8");
        let from =
            if kernel == kernels::NARROW { operands.exact(from, Read, length) } else { operands.values(from, Read, length) };
        let to = if kernel == kernels::NARROW { operands.values(to, Write, length) } else { operands.exact(to, Write, length) };
        self.launch(kernel, Self::flat(kernel, length / 8), &of::Convert { from, to, length: length as u64 }, &operands);
    }

    fn load_batch(&mut self, batch: &Batch, pass: Pass) {
        self.put_batch(batch, pass);
    }

    fn load_decode(&mut self, rows: &DecodeRows) {
        self.put_decode(rows);
    }

    fn begin_pass(&mut self, key: u64) -> bool {
        self.device.begin_pass(key)
    }

    fn end_pass(&mut self) {
        self.device.end_pass();
    }

    fn embed(&mut self, table: Buffer, out: Buffer) {
        let tokens = self.tables().tokens;
        self.gather_rows(table, (tokens, self.rows), out);
    }

    fn embed_backward(&mut self, dout: Buffer, dtable: Buffer) {
        let (rows, width, tables) = (self.rows, self.width(), self.tables());
        let mut operands = self.operands();
        let arguments = of::EmbedBackward {
            dout: operands.values(dout, Read, rows * width),
            order: operands.table(tables.order, Read, 4 * rows),
            tokens: operands.table(tables.tokens, Read, 4 * rows),
            runs: operands.table(tables.runs, Read, 4 * (rows + 1)),
            dtable: operands.exact(dtable, Update, self.shape.vocabulary * width),
            width: width as u32,
            unused: 0,
        };
        let kernel = kernels::EMBED_BACKWARD;
        let [blocks, ..] = Self::flat(kernel, width.div_ceil(8));
        self.launch(kernel, [rows, blocks, 1], &arguments, &operands);
    }

    fn norm(&mut self, op: Norm) {
        let (rows, width) = (op.rstd.length(), self.width());
        let mut operands = self.operands();
        let length = rows * width;
        let residual = op
            .residual
            .map(|residual| (operands.values(residual.delta, Read, length), operands.values(residual.sum, Write, length)));
        let (delta, sum) = residual.unwrap_or_default();
        let arguments = of::Norm {
            x: operands.values(op.x, Read, length),
            delta,
            sum,
            weight: operands.values(op.weight, Read, width),
            out: operands.values(op.out, Write, length),
            rstd: operands.exact(op.rstd, Write, rows),
            width: width as u32,
            epsilon: op.epsilon as f32,
        };
        self.launch(kernels::norm(width), [rows, 1, 1], &arguments, &operands);
    }

    fn norm_rebuild(&mut self, x: Buffer, weight: Buffer, rstd: Buffer, out: Buffer) {
        let (rows, width) = (rstd.length(), self.width());
        let mut operands = self.operands();
        let arguments = of::NormRebuild {
            x: operands.values(x, Read, rows * width),
            weight: operands.values(weight, Read, width),
            rstd: operands.exact(rstd, Read, rows),
            out: operands.values(out, Write, rows * width),
            width: width as u32,
            unused: 0,
        };
        self.launch(kernels::norm_rebuild(width), [rows, 1, 1], &arguments, &operands);
    }

    fn norm_backward(&mut self, op: NormBackward) {
        let (rows, width) = (op.rstd.length(), self.width());
        let strips = rows.div_ceil(kernels::NORM_STRIP as usize);
        let partials = self.tables().norm_partials;
        let mut operands = self.operands();
        let arguments = of::NormBackward {
            x: operands.values(op.x, Read, rows * width),
            weight: operands.values(op.weight, Read, width),
            rstd: operands.exact(op.rstd, Read, rows),
            dout: operands.values(op.dout, Read, rows * width),
            dx: operands.values(op.dx, Update, rows * width),
            partials: op.dweight.map_or_else(Address::default, |_| operands.table(partials, Write, 4 * strips * width)),
            rows: rows as u32,
            width: width as u32,
        };
        self.launch(kernels::norm_backward(width), [strips, 1, 1], &arguments, &operands);
        let Some(dweight) = op.dweight else { return };
        let mut operands = self.operands();
        let arguments = of::NormWeight {
            partials: operands.table(partials, Read, 4 * strips * width),
            dweight: operands.exact(dweight, Update, width),
            strips: strips as u32,
            width: width as u32,
        };
        self.launch(kernels::norm_weight(width), [width.div_ceil(32), 1, 1], &arguments, &operands);
    }

    fn rotate(&mut self, fused: Buffer, turn: Turn) {
        let (heads, tables, rows) = (self.heads, self.tables(), self.rows);
        let turned_heads = heads.heads + heads.kv_heads;
        let packs = rows * turned_heads * heads.head_width / 16;
        let mut operands = self.operands();
        let arguments = of::Rotate {
            fused: operands.values(fused, Update, rows * heads.fused_width()),
            cosines: operands.table(tables.cosines, Read, 4 * tables.cosines.words.length()),
            sines: operands.table(tables.sines, Read, 4 * tables.sines.words.length()),
            positions: operands.table(tables.positions, Read, 4 * rows),
            packs: packs_of(packs),
            row_width: heads.fused_width() as u32,
            turned_heads: turned_heads as u32,
            sign: match turn {
                Turn::Forward => 1.0,
                Turn::Back => -1.0,
            },
        };
        let kernel = kernels::rotate(heads.head_width);
        self.launch(kernel, Self::flat(kernel, packs), &arguments, &operands);
    }

    fn attend(&mut self, attention: Attention) {
        self.attention_forward(attention);
    }

    fn attend_backward(&mut self, attention: AttentionBackward) {
        self.attention_backward(attention);
    }

    fn attend_cached(&mut self, attention: CachedAttention) {
        self.cached_attention(attention);
    }

    fn swiglu(&mut self, gate_up: Buffer, out: Buffer) {
        let length = out.length();
        let mut operands = self.operands();
        let arguments = of::Swiglu {
            gate_up: operands.values(gate_up, Read, 2 * length),
            out: operands.values(out, Write, length),
            packs: packs_of(length / 8),
            width: self.shape.feed_forward as u32,
        };
        self.launch(kernels::SWIGLU_FORWARD, Self::flat(kernels::SWIGLU_FORWARD, length / 8), &arguments, &operands);
    }

    fn swiglu_backward(&mut self, gate_up: Buffer, dout: Buffer, dgate_up: Buffer, out: Buffer) {
        let length = out.length();
        let mut operands = self.operands();
        let arguments = of::SwigluBackward {
            gate_up: operands.values(gate_up, Read, 2 * length),
            dout: operands.values(dout, Read, length),
            dgate_up: operands.values(dgate_up, Write, 2 * length),
            out: operands.values(out, Write, length),
            packs: packs_of(length / 8),
            width: self.shape.feed_forward as u32,
        };
        self.launch(kernels::SWIGLU_BACKWARD, Self::flat(kernels::SWIGLU_BACKWARD, length / 8), &arguments, &operands);
    }

    fn multiply(&mut self, product: Product) {
        let Product { alpha, a, b, c, accumulate } = product;
        let [a, b, c] = [a, b, c].map(|matrix| self.matrix(matrix));
        self.device.multiply(&DeviceProduct { alpha: alpha as f32, a, b, c, accumulate });
    }

    fn drop_out(&mut self, dropout: Dropout, x: Buffer, out: Buffer) {
        self.launch_dropout((kernels::DROP_OUT, Write), dropout, x, out);
    }

    fn drop_out_backward(&mut self, dropout: Dropout, dout: Buffer, dx: Buffer) {
        self.launch_dropout((kernels::DROP_OUT_BACKWARD, Update), dropout, dout, dx);
    }

    fn cross_entropy(&mut self, op: CrossEntropy) {
        let (rows, vocabulary, tables) = (op.losses.length(), self.shape.vocabulary, self.tables());
        let mut operands = self.operands();
        let [mut targets, mut counted] = [tables.targets, tables.counted].map(|table| operands.table(table, Read, 4 * self.rows));
        for address in [&mut targets, &mut counted] {
            *address = address.plus(4 * op.first_row);
        }
        let access = if op.gradient { Update } else { Read };
        let arguments = of::CrossEntropy {
            pass: operands.table(tables.pass, Read, size_of::<of::PassScalars>()),
            logits: operands.values(op.logits, access, rows * vocabulary),
            targets,
            counted,
            losses: operands.scalars(op.losses, Write, rows),
            not_finite: operands.table(tables.not_finite, Update, 4),
            vocabulary: vocabulary as u32,
            gradient: u32::from(op.gradient),
        };
        self.launch(kernels::CROSS_ENTROPY_ROWS, [rows, 1, 1], &arguments, &operands);
    }

    fn gather(&mut self, from: Buffer, rows: &[u32], out: Buffer) {
        // The embedding of the new rows is done with: its table takes the rows that are wanted.
        let table = self.tables().order;
        self.put(table, rows);
        self.gather_rows(from, (table, rows.len()), out);
    }

    fn begin_step(&mut self) {
        let flag = self.address(self.tables().not_finite.words);
        self.device.clear(flag, 4);
    }

    fn judge(&mut self, gradient: Buffer, limits: Limits) -> Ticket {
        let tables = self.tables();
        self.square(Weights::Plain(gradient), Some(tables.not_finite), limits, tables.judgement)
    }

    fn judgement(&mut self, ticket: Ticket) -> Result<Judgement, DeviceError> {
        let found = self.found(ticket)?;
        Ok(Judgement { norm: found.norm, finite: found.finite != 0, factor: f64::from(found.factor) })
    }

    fn adamw(&mut self, step: AdamWStep) {
        let Weights::Split { working, remainder } = step.weights else { panic!("adamw: a card trains weights in two halves") };
        let length = working.length();
        assert!(length.is_multiple_of(8), "adamw: {length} weights, no multiple of 8");
        let scalars = step.scalars;
        let mut operands = self.operands();
        let [beta1, beta2] = scalars.betas;
        let (kernel, [first, second], (update, key, places, first_block)) = match step.moments {
            Moments::Exact(moments) => {
                let moments = moments.map(|moment| operands.exact(moment, Update, length));
                (kernels::ADAMW, moments, Default::default())
            }
            Moments::Drawn(moments, draw) => {
                let moments = moments.map(|moment| operands.values(moment, Update, length));
                (kernels::ADAMW_DRAWN, moments, address_of(draw))
            }
        };
        let arguments = of::AdamW {
            judgement: operands.table(self.tables().judgement, Read, size_of::<DeviceJudgement>()),
            working: operands.values(working, Update, length),
            remainder: operands.remainders(remainder, Update, length),
            gradient: operands.exact(step.gradient, Read, length),
            first,
            second,
            length: length as u64,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            correction1: scalars.corrections[0] as f32,
            correction2: scalars.corrections[1] as f32,
            epsilon: scalars.epsilon as f32,
            learning_rate: scalars.learning_rate as f32,
            decay: scalars.weight_decay as f32,
            update,
            key,
            places,
            first_block,
        };
        self.launch(kernel, Self::flat(kernel, length / 8), &arguments, &operands);
    }

    fn norm_of(&mut self, weights: Weights) -> Ticket {
        let limits = Limits { clip: 0.0, skip_above: f64::INFINITY };
        self.square(weights, None, limits, self.tables().other_norm)
    }

    fn found_norm(&mut self, ticket: Ticket) -> Result<f64, DeviceError> {
        Ok(self.found(ticket)?.norm)
    }
}

impl<D: Device> Gpu<D> {
    /// `out (n, C) =` the rows of `from` that the table names.
    fn gather_rows(&mut self, from: Buffer, (rows, count): (Table, usize), out: Buffer) {
        let width = self.width();
        let mut operands = self.operands();
        let packs = count * width / 8;
        let arguments = of::GatherRows {
            from: operands.values(from, Read, from.length()),
            rows: operands.table(rows, Read, 4 * count),
            out: operands.values(out, Write, count * width),
            packs: packs_of(packs),
            width: width as u32,
        };
        self.launch(kernels::GATHER_ROWS, Self::flat(kernels::GATHER_ROWS, packs), &arguments, &operands);
    }

    fn launch_dropout(&mut self, (kernel, access): (kernels::Kernel, Access), dropout: Dropout, input: Buffer, output: Buffer) {
        let length = output.length();
        assert!(dropout.width.is_multiple_of(8), "dropout: rows of {}", dropout.width);
        assert!((0.0..1.0).contains(&dropout.probability), "dropout: probability {}", dropout.probability);
        // Key and place do not depend on the step, which the kernel reads from the pass.
        let (key, place) = Stream::new(dropout.seed, Purpose::Dropout, 0, dropout.tensor).address();
        let mut operands = self.operands();
        let arguments = of::Dropout {
            pass: operands.table(self.tables().pass, Read, size_of::<of::PassScalars>()),
            input: operands.values(input, Read, length),
            output: operands.values(output, access, length),
            packs: packs_of(length / 8),
            width: dropout.width as u32,
            key,
            place,
            threshold: (dropout.probability * 4_294_967_296.0) as u32,
            factor: (1.0 / (1.0 - dropout.probability)) as f32,
            unused: 0,
        };
        self.launch(kernel, Self::flat(kernel, length / 8), &arguments, &operands);
    }

    /// `to =` the norm of a vector, and what follows from it; sends for it.
    fn square(&mut self, values: Weights, not_finite: Option<Table>, limits: Limits, to: Table) -> Ticket {
        let (length, partials) = (values.length(), self.tables().square_partials);
        let chunks = (length as u64).div_ceil(kernels::NORM_CHUNK) as usize;
        let mut operands = self.operands();
        let sums = operands.table(partials, Write, 8 * chunks);
        match values {
            Weights::Plain(values) => {
                let values = operands.exact(values, Read, length);
                let arguments = of::SumOfSquares { values, partials: sums, length: length as u64 };
                self.launch(kernels::SUM_OF_SQUARES, [chunks, 1, 1], &arguments, &operands);
            }
            Weights::Split { working, remainder } => {
                assert!(length.is_multiple_of(8), "norm: {length} weights, no multiple of 8");
                let working = operands.values(working, Read, length);
                let remainder = operands.remainders(remainder, Read, length);
                let arguments = of::SumOfSplitSquares { working, remainder, partials: sums, length: length as u64 };
                self.launch(kernels::SUM_OF_SPLIT_SQUARES, [chunks, 1, 1], &arguments, &operands);
            }
        }
        let mut operands = self.operands();
        let arguments = of::Judge {
            partials: operands.table(partials, Read, 8 * chunks),
            not_finite: not_finite.map_or_else(Address::default, |flag| operands.table(flag, Read, 4)),
            judgement: operands.table(to, Write, size_of::<DeviceJudgement>()),
            clip: limits.clip,
            skip_above: limits.skip_above,
            count: chunks as u64,
        };
        self.launch(kernels::JUDGE, [1, 1, 1], &arguments, &operands);
        let address = self.address(to.words);
        Ticket(self.device.fetch(address, size_of::<DeviceJudgement>()) << 1)
    }

    fn found(&mut self, ticket: Ticket) -> Result<DeviceJudgement, DeviceError> {
        let mut found = DeviceJudgement::default();
        self.device.collect(ticket.0 >> 1, bytemuck::bytes_of_mut(&mut found))?;
        Ok(found)
    }
}

/// Update, key, places of both moments, and the block of the first elements, as the kernel takes them.
fn address_of(draw: Draw) -> (u32, [u32; 2], [u32; 2], u64) {
    assert!(draw.first_element.is_multiple_of(8), "adamw: random numbers from element {}, no multiple of 8", draw.first_element);
    let update = u32::try_from(draw.update).expect("a run has fewer than 2^32 updates");
    let [(key, first), (_, second)] = [0, 1].map(|moment| Stream::new(draw.seed, Purpose::Rounding, 0, moment).address());
    (update, key, [first, second], draw.first_element / 8)
}
