//! A model's sizes, the names and places of its tensors: what is known of it without any weight.

use std::sync::Arc;

use crate::engine::places::Places;
use crate::parameters::Layout;
use crate::shape::{Shape, ShapeError};

/// A model of one shape.
#[derive(Clone, Debug)]
pub struct Model {
    shape: Shape,
    layout: Arc<Layout>,
    places: Places,
}

impl Model {
    /// Checks the shape and computes the places of its tensors.
    ///
    /// # Errors
    /// [`ShapeError`] when the shape is impossible.
    pub fn new(shape: Shape) -> Result<Self, ShapeError> {
        shape.check()?;
        let layout = Arc::new(Layout::of(&shape));
        let places = Places::new(&shape, &layout);
        Ok(Self { shape, layout, places })
    }

    /// Its sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The layout of its parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }
}
