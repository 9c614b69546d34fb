//! Tensors of any rank whose elements are those of another tensor, moved, repeated, dropped or summed. This
//! covers slices, padding, permutations, broadcasting, sums over axes, and the gradients of all of these.
//!
//! Each operation is a list of input positions for every output position of every axis. The gradient uses
//! the lists in the other direction ([`Places::transposed`]), so one kernel serves both passes. Each
//! element is written once, by one thread.

use std::ops::Range;

use super::channel_sums::sum_rows;
use super::compiled::compiled;
use super::float::Float;
use super::output::build_from;
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// For each output position of an axis, the input positions whose elements are summed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Places {
    /// Output `i` reads input `i + offset`, or nothing if there is no such input.
    Shifted {
        /// Number of input positions.
        inputs: usize,
        /// Number of output positions.
        outputs: usize,
        /// Distance from an output position to its input position.
        offset: isize,
    },
    /// The only position of an axis, repeated.
    Repeated {
        /// Number of output positions.
        outputs: usize,
    },
    /// The sum of all positions.
    Sum {
        /// Number of input positions.
        inputs: usize,
    },
    /// Any lists.
    Listed {
        /// Number of input positions.
        inputs: usize,
        /// The start of each output position's list in `places`, and the end of the last list.
        starts: Vec<usize>,
        /// Input positions.
        places: Vec<usize>,
    },
}

/// The input positions of one output position.
#[derive(Clone)]
enum List<'a> {
    Range(Range<usize>),
    Slice(&'a [usize]),
}

impl List<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Slice(slice) => slice.len(),
        }
    }

    fn get(&self, i: usize) -> usize {
        match self {
            Self::Range(range) => range.start + i,
            Self::Slice(slice) => slice[i],
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// The values outside a padded axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Outside {
    /// No value: the list of the output position is empty.
    #[default]
    Nothing,
    /// The mirror image, without the edge itself.
    Reflected,
    /// The element at the edge.
    Edge,
    /// The elements of the opposite end.
    Circular,
}

impl Places {
    fn listed<L: IntoIterator<Item = usize>>(
        inputs: usize,
        lists: impl Iterator<Item = L>,
    ) -> Self {
        let (mut starts, mut places) = (vec![0], Vec::new());
        for list in lists {
            places.extend(list);
            starts.push(places.len());
        }
        Self::Listed { inputs, starts, places }
    }

    /// Every position, unchanged.
    pub fn all(inputs: usize) -> Self {
        Self::range(inputs, 0..inputs)
    }

    /// The positions in `range`.
    pub fn range(inputs: usize, range: Range<usize>) -> Self {
        Self::Shifted { inputs, outputs: range.len(), offset: range.start as isize }
    }

    /// The axis with `before` positions added before it and `after` positions after it. For reflection,
    /// both must be below `inputs`.
    pub fn padded(inputs: usize, before: usize, after: usize, outside: Outside) -> Self {
        let (outputs, last) = (before + inputs + after, inputs as isize - 1);
        let listed = |place: fn(isize, isize) -> isize| {
            let place = |output: usize| {
                let at = output as isize - before as isize;
                [if (0..=last).contains(&at) { at } else { place(at, last) } as usize]
            };
            Self::listed(inputs, (0..outputs).map(place))
        };
        match outside {
            Outside::Nothing => Self::Shifted { inputs, outputs, offset: -(before as isize) },
            Outside::Reflected => listed(|at, last| if at < 0 { -at } else { 2 * last - at }),
            Outside::Edge => listed(|at, last| at.clamp(0, last)),
            Outside::Circular => listed(|at, last| at.rem_euclid(last + 1)),
        }
    }

    /// The positions of `groups` equal groups in turn: the first of each group, then the second of each, and so on.
    /// `inputs` must be a multiple of `groups`.
    pub fn shuffled(inputs: usize, groups: usize) -> Self {
        let each = inputs / groups;
        Self::listed(inputs, (0..inputs).map(|output| [output % groups * each + output / groups]))
    }

    /// The lists from the inputs back to the outputs.
    pub fn transposed(&self) -> Self {
        match *self {
            Self::Shifted { inputs, outputs, offset } => {
                Self::Shifted { inputs: outputs, outputs: inputs, offset: -offset }
            }
            Self::Repeated { outputs } => Self::Sum { inputs: outputs },
            Self::Sum { inputs } => Self::Repeated { outputs: inputs },
            Self::Listed { inputs, .. } => {
                let mut lists = vec![Vec::new(); inputs];
                for output in 0..self.outputs() {
                    for place in self.of(output).iter() {
                        lists[place].push(output);
                    }
                }
                Self::listed(self.outputs(), lists.into_iter())
            }
        }
    }

    /// Number of input positions.
    pub fn inputs(&self) -> usize {
        match *self {
            Self::Repeated { .. } => 1,
            Self::Shifted { inputs, .. } | Self::Sum { inputs } | Self::Listed { inputs, .. } => {
                inputs
            }
        }
    }

    /// Number of output positions.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Sum { .. } => 1,
            Self::Shifted { outputs, .. } | Self::Repeated { outputs } => *outputs,
            Self::Listed { starts, .. } => starts.len() - 1,
        }
    }

    fn of(&self, output: usize) -> List<'_> {
        match self {
            Self::Shifted { inputs, offset, .. } => {
                let place = output as isize + offset;
                let place = usize::try_from(place).ok().filter(|place| place < inputs);
                List::Range(place.map_or(0..0, |place| place..place + 1))
            }
            Self::Repeated { .. } => List::Range(0..1),
            Self::Sum { inputs } => List::Range(0..*inputs),
            Self::Listed { starts, places, .. } => {
                List::Slice(&places[starts[output]..starts[output + 1]])
            }
        }
    }

    /// If each output reads at most one input, and neighbours read neighbours: the outputs that read an
    /// input, and the input that the first of them reads.
    fn run(&self) -> Option<(Range<usize>, usize)> {
        let &Self::Shifted { inputs, outputs, offset } = self else {
            return None;
        };
        let start = (-offset).clamp(0, outputs as isize);
        let end = (inputs as isize - offset).clamp(start, outputs as isize);
        let first = if start < end { start + offset } else { 0 };
        Some((start as usize..end as usize, first as usize))
    }

    /// If each output reads exactly one of any inputs: the input of each.
    fn gathered(&self) -> Option<&[usize]> {
        let Self::Listed { starts, places, .. } = self else {
            return None;
        };
        starts.iter().copied().eq(0..=places.len()).then_some(places)
    }

    /// Merges two axes into one, this one outside of `inner`, if the merged axis is as simple.
    fn nested(&self, inner: &Self) -> Option<Self> {
        match (self, inner) {
            (Self::Shifted { .. }, Self::Shifted { .. }) if self.is_all() && inner.is_all() => {
                Some(Self::all(self.inputs() * inner.inputs()))
            }
            (Self::Repeated { outputs }, Self::Repeated { outputs: inner }) => {
                Some(Self::Repeated { outputs: outputs * inner })
            }
            (Self::Sum { inputs }, Self::Sum { inputs: inner }) => {
                Some(Self::Sum { inputs: inputs * inner })
            }
            _ => None,
        }
    }

    fn is_all(&self) -> bool {
        matches!(self, Self::Shifted { inputs, outputs, offset: 0 } if inputs == outputs)
    }
}

/// One axis of the output: the positions it reads, and the distance of the input's positions in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AxisPlaces {
    /// The input positions.
    pub places: Places,
    /// Number of elements from one input position to the next.
    pub stride: usize,
}

/// The axes of an output, from the outermost to the innermost. Each reads one axis of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rearrangement {
    axes: Vec<AxisPlaces>,
    input_len: usize,
}

impl Rearrangement {
    /// Reads a contiguous input. Axis `i` of the output is `places[i]` of axis `order[i]` of the input.
    ///
    /// # Panics
    /// If `order` does not name each axis once.
    pub fn new(places: Vec<Places>, order: &[usize]) -> Self {
        assert_eq!(places.len(), order.len(), "an axis of the output for each of the input");
        let mut dims = vec![None; order.len()];
        for (places, &axis) in places.iter().zip(order) {
            assert!(dims[axis].replace(places.inputs()).is_none(), "each axis once");
        }
        let dims: Vec<usize> = dims.into_iter().flatten().collect();
        let strides: Vec<usize> = (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect();
        let input_len = dims.iter().product();
        let axes = places.into_iter().zip(order);
        let axes = axes.map(|(places, &axis)| AxisPlaces { places, stride: strides[axis] });
        Self { axes: axes.collect(), input_len }.merged()
    }

    /// Merges adjacent axes that are read as one.
    fn merged(mut self) -> Self {
        let mut i = 1;
        while i < self.axes.len() {
            let (outer, inner) = (&self.axes[i - 1], &self.axes[i]);
            let places = outer.places.nested(&inner.places);
            let is_inside = outer.stride == inner.places.inputs() * inner.stride;
            if let Some(places) = places.filter(|_| is_inside) {
                self.axes[i - 1] = AxisPlaces { places, stride: inner.stride };
                self.axes.remove(i);
            } else {
                i += 1;
            }
        }
        self
    }

    /// The axes. Adjacent axes that are read as one have been merged.
    pub fn axes(&self) -> &[AxisPlaces] {
        &self.axes
    }

    /// Number of elements of the input.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// If the output is the sum over the rows of a matrix: the number of the matrix's columns.
    pub fn sums_rows_of(&self) -> Option<usize> {
        match &self.axes[..] {
            [AxisPlaces { places: Places::Sum { .. }, stride }] => Some(*stride),
            [AxisPlaces { places: Places::Sum { .. }, stride }, columns] => {
                let inputs = columns.places.inputs();
                (columns.places.is_all() && *stride == inputs).then_some(inputs)
            }
            _ => None,
        }
    }

    /// Number of elements of the output.
    pub fn output_len(&self) -> usize {
        self.axes.iter().map(|axis| axis.places.outputs()).product()
    }
}

compiled! {
    trait Kernels<T>;

    /// The output of `rearrangement`. An element with an empty list is `fill`. An element with several
    /// input positions is their sum, taken in `f64`.
    ///
    /// # Panics
    /// If `x` is not as long as the input of `rearrangement`.
    pub fn rearrange(x: &[T], rearrangement: &Rearrangement, fill: T) -> Vec<T> {
        assert_eq!(x.len(), rearrangement.input_len, "x has the length of the input");
        if let Some(columns) = rearrangement.sums_rows_of().filter(|_| !x.is_empty()) {
            return sum_rows(x, columns);
        }
        let len = rearrangement.output_len();
        let (last, outer) = match rearrangement.axes.split_last() {
            Some((last, outer)) if len > 0 => (last, outer),
            // Rank 0, or an empty output.
            _ => return x[..len.min(x.len())].to_vec(),
        };
        let row_len = last.places.outputs();
        let rows = rows_per_piece(row_len);
        let gathered = last.places.gathered().filter(|_| last.stride == 1);
        build_from(len.max(x.len()), len, rows * row_len, |i, out| {
            let mut bases = Vec::new();
            for (row, out) in out.chunks_exact_mut(row_len).enumerate() {
                find_bases(outer, i * rows + row, &mut bases);
                match (gathered, &bases[..]) {
                    (Some(places), &[base]) => gather(&x[base..], places, out),
                    _ => rearrange_row(x, &bases, last, fill, out),
                }
            }
        })
    }
}

/// Finds the starts of the input rows that a row of the output reads.
fn find_bases(outer: &[AxisPlaces], mut row: usize, bases: &mut Vec<usize>) {
    bases.clear();
    bases.push(0);
    // Goes from the innermost axis outwards by dividing the row's number. The result is in the input's
    // order.
    for axis in outer.iter().rev() {
        let list = axis.places.of(row % axis.places.outputs());
        row /= axis.places.outputs();
        if list.len() == 1 {
            let start = list.get(0) * axis.stride;
            bases.iter_mut().for_each(|base| *base += start);
        } else {
            let inner = std::mem::take(bases);
            let starts = list.iter().map(|place| place * axis.stride);
            bases.extend(starts.flat_map(|start| inner.iter().map(move |base| start + base)));
        }
    }
}

fn gather<T: Float>(x: &[T], places: &[usize], out: &mut [T]) {
    for (out, &place) in out.iter_mut().zip(places) {
        *out = x[place];
    }
}

fn rearrange_row<T: Float>(x: &[T], bases: &[usize], last: &AxisPlaces, fill: T, out: &mut [T]) {
    let AxisPlaces { places, stride } = last;
    if bases.is_empty() {
        return out.fill(fill);
    }
    match (bases, places.run()) {
        (&[base], Some((run, first))) if *stride == 1 => {
            out[..run.start].fill(fill);
            out[run.end..].fill(fill);
            let x = &x[base + first..][..run.len()];
            out[run].copy_from_slice(x);
        }
        (_, Some((run, first))) if *stride == 1 => {
            out.fill(fill);
            let mut sums = vec![0.0; run.len()];
            for base in bases {
                add_row(&x[base + first..][..run.len()], &mut sums);
            }
            for (out, sum) in out[run].iter_mut().zip(sums) {
                *out = T::narrow(sum);
            }
        }
        (&[base], Some((run, first))) => {
            out.fill(fill);
            let x = x[base + first * stride..].iter().step_by(*stride);
            for (out, x) in out[run].iter_mut().zip(x) {
                *out = *x;
            }
        }
        _ => {
            for (i, out) in out.iter_mut().enumerate() {
                *out = sum_of(x, bases, &places.of(i), *stride, fill);
            }
        }
    }
}

fn sum_of<T: Float>(x: &[T], bases: &[usize], list: &List<'_>, stride: usize, fill: T) -> T {
    match (bases, list.len()) {
        (_, 0) => fill,
        (&[base], 1) => x[base + list.get(0) * stride],
        _ => {
            let row = |base: &usize| -> f64 {
                list.iter().map(|place| x[base + place * stride].widen()).sum()
            };
            T::narrow(bases.iter().map(row).sum())
        }
    }
}

vectorize! {
    fn add_row<T: Float>(x: &[T], sums: &mut [f64]) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x.widen();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(places: &Places) -> Vec<Vec<usize>> {
        (0..places.outputs()).map(|output| places.of(output).iter().collect()).collect()
    }

    #[test]
    fn padding_finds_its_source() {
        let row = |outside| lists(&Places::padded(4, 2, 1, outside)).concat();
        assert_eq!(row(Outside::Reflected), [2, 1, 0, 1, 2, 3, 2]);
        assert_eq!(row(Outside::Edge), [0, 0, 0, 1, 2, 3, 3]);
        assert_eq!(row(Outside::Circular), [2, 3, 0, 1, 2, 3, 0]);
        let nothing = Places::padded(2, 1, 1, Outside::Nothing);
        assert_eq!(lists(&nothing), [vec![], vec![0], vec![1], vec![]]);
    }

    #[test]
    fn reading_backwards_twice_changes_nothing() {
        for places in [
            Places::all(5),
            Places::range(7, 2..5),
            Places::Repeated { outputs: 3 },
            Places::Sum { inputs: 4 },
            Places::padded(4, 2, 3, Outside::Reflected),
            Places::padded(4, 2, 3, Outside::Nothing),
            Places::shuffled(12, 3),
        ] {
            assert_eq!(places.transposed().transposed(), places);
        }
    }

    #[test]
    fn axes_that_are_read_whole_are_one() {
        let places = vec![Places::all(2), Places::all(3), Places::range(4, 1..3), Places::all(5)];
        let merged = Rearrangement::new(places, &[0, 1, 2, 3]);
        assert_eq!(merged.axes().len(), 3);
        assert_eq!(merged.output_len(), 2 * 3 * 2 * 5);
        let swapped = Rearrangement::new(vec![Places::all(3), Places::all(2)], &[1, 0]);
        assert_eq!(swapped.axes().len(), 2);
        let y = rearrange(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &swapped, 0.0);
        assert_eq!(y, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn a_shuffle_takes_groups_in_turn_and_another_undoes_it() {
        assert_eq!(lists(&Places::shuffled(6, 2)).concat(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Places::shuffled(6, 2).transposed(), Places::shuffled(6, 3));
        assert!(Places::shuffled(6, 2).gathered().is_some());
        assert!(Places::padded(2, 1, 1, Outside::Nothing).gathered().is_none());
        let rows = vec![Places::all(2), Places::shuffled(4, 2)];
        let x = [0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let y = rearrange(&x, &Rearrangement::new(rows, &[0, 1]), 0.0);
        assert_eq!(y, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn sums_and_empty_lists() {
        let columns = Rearrangement::new(vec![Places::Sum { inputs: 2 }, Places::all(3)], &[0, 1]);
        let x = [1f64, 2.0, 3.0, 10.0, 20.0, 30.0];
        assert_eq!(rearrange(&x, &columns, 0.0), [11.0, 22.0, 33.0]);
        let rows = Rearrangement::new(vec![Places::all(2), Places::Sum { inputs: 3 }], &[0, 1]);
        assert_eq!(rearrange(&x, &rows, 0.0), [6.0, 60.0]);
        let cut = Places::range(3, 1..2).transposed();
        let back = Rearrangement::new(vec![Places::all(2), cut], &[0, 1]);
        assert_eq!(rearrange(&[5f32, 7.0], &back, -1.0), [-1.0, 5.0, -1.0, -1.0, 7.0, -1.0]);
    }
}
