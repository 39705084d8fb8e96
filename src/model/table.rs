//! The input embedding table: one vector per token of the vocabulary, the same in every sentence.

use half::f16;

/// Rows of the word embeddings as the graph adds them up, before positions, token types and LayerNorm.
///
/// They are kept as 16-bit floats, which halves their memory: 2 bytes × vocabulary × width. Rounding moves a vector
/// by less than 0.05 percent of its length.
pub struct StaticTable {
    width: usize,
    values: Vec<f16>,
}

impl StaticTable {
    /// A table of whole rows; `None` where there are no rows or a part of one.
    pub(super) fn new(width: usize, values: Vec<f16>) -> Option<Self> {
        (width > 0 && !values.is_empty() && values.len().is_multiple_of(width))
            .then_some(Self { width, values })
    }

    /// The row of a token, as long as the model is wide.
    pub fn row(&self, id: u32) -> Option<&[f16]> {
        let start = (id as usize).checked_mul(self.width)?;
        self.values.get(start..start.checked_add(self.width)?)
    }

    /// Tokens that have a row.
    pub fn vocabulary(&self) -> usize {
        self.values.len() / self.width
    }
}
