//! The five kinds of blocks: torchvision's `InceptionA` to `InceptionE`.

use candle_core::Result;
use candle_vision_ops::{AvgPool2dConfig, MaxPool2dConfig, PerAxis};

use super::super::basic_conv::{BasicConv, Branch, Branches, Pool};
use super::KERNELS;
use crate::ParameterBuilder;
use crate::layers::{AvgPool2d, ConvNormOptions, MaxPool2d};

/// `[height, width]` of kernels along one axis.
const ROW3: [usize; 2] = [1, 3];
const COLUMN3: [usize; 2] = [3, 1];
const ROW7: [usize; 2] = [1, 7];
const COLUMN7: [usize; 2] = [7, 1];

fn conv(from: usize, to: usize, kernel: impl PerAxis) -> ConvNormOptions {
    KERNELS.conv(from, to, kernel)
}

/// A 3x3 convolution that halves the map, without padding.
fn halve(from: usize, to: usize) -> ConvNormOptions {
    conv(from, to, 3).stride(2).padding(0)
}

/// Convolutions one after the other under the names of `vb`.
fn through<const N: usize>(
    layers: [(&str, ConvNormOptions); N],
    vb: &ParameterBuilder,
) -> Result<Branch> {
    let layers = layers.into_iter();
    let convs = layers.map(|(name, options)| BasicConv::new(options, vb.pp(name)));
    Ok(Branch { convs: convs.collect::<Result<_>>()?, ..Branch::default() })
}

/// The average of the pixels around, then a 1x1 convolution.
fn averaged(from: usize, to: usize, vb: &ParameterBuilder) -> Result<Branch> {
    let pool = AvgPool2dConfig::new(3).stride(1).padding(1);
    let pool = Pool::Average(AvgPool2d::new(pool, vb.pp("pool")));
    Ok(Branch { pool: Some(pool), ..through([("branch_pool", conv(from, to, 1))], vb)? })
}

/// A max pool that halves the map.
fn pooled(vb: &ParameterBuilder) -> Branch {
    let pool = MaxPool2d::new(MaxPool2dConfig::new(3).stride(2), vb.pp("pool"));
    Branch { pool: Some(Pool::Max(pool)), ..Branch::default() }
}

/// Figure 5 of the paper, with a 5x5 kernel left in one branch.
pub(super) fn a(from: usize, pool_features: usize, vb: ParameterBuilder) -> Result<Branches> {
    let branches = vec![
        through([("branch1x1", conv(from, 64, 1))], &vb)?,
        through([("branch5x5_1", conv(from, 48, 1)), ("branch5x5_2", conv(48, 64, 5))], &vb)?,
        through(
            [
                ("branch3x3dbl_1", conv(from, 64, 1)),
                ("branch3x3dbl_2", conv(64, 96, 3)),
                ("branch3x3dbl_3", conv(96, 96, 3)),
            ],
            &vb,
        )?,
        averaged(from, pool_features, &vb)?,
    ];
    Ok(Branches::new(branches, &vb))
}

/// Figure 10: halves the map.
pub(super) fn b(from: usize, vb: ParameterBuilder) -> Result<Branches> {
    let branches = vec![
        through([("branch3x3", halve(from, 384))], &vb)?,
        through(
            [
                ("branch3x3dbl_1", conv(from, 64, 1)),
                ("branch3x3dbl_2", conv(64, 96, 3)),
                ("branch3x3dbl_3", halve(96, 96)),
            ],
            &vb,
        )?,
        pooled(&vb),
    ];
    Ok(Branches::new(branches, &vb))
}

/// Figure 6: 7x7 kernels as a row after a column.
pub(super) fn c(from: usize, inner: usize, vb: ParameterBuilder) -> Result<Branches> {
    let branches = vec![
        through([("branch1x1", conv(from, 192, 1))], &vb)?,
        through(
            [
                ("branch7x7_1", conv(from, inner, 1)),
                ("branch7x7_2", conv(inner, inner, ROW7)),
                ("branch7x7_3", conv(inner, 192, COLUMN7)),
            ],
            &vb,
        )?,
        through(
            [
                ("branch7x7dbl_1", conv(from, inner, 1)),
                ("branch7x7dbl_2", conv(inner, inner, COLUMN7)),
                ("branch7x7dbl_3", conv(inner, inner, ROW7)),
                ("branch7x7dbl_4", conv(inner, inner, COLUMN7)),
                ("branch7x7dbl_5", conv(inner, 192, ROW7)),
            ],
            &vb,
        )?,
        averaged(from, 192, &vb)?,
    ];
    Ok(Branches::new(branches, &vb))
}

/// Halves the map behind 7x7 kernels.
pub(super) fn d(from: usize, vb: ParameterBuilder) -> Result<Branches> {
    let branches = vec![
        through([("branch3x3_1", conv(from, 192, 1)), ("branch3x3_2", halve(192, 320))], &vb)?,
        through(
            [
                ("branch7x7x3_1", conv(from, 192, 1)),
                ("branch7x7x3_2", conv(192, 192, ROW7)),
                ("branch7x7x3_3", conv(192, 192, COLUMN7)),
                ("branch7x7x3_4", halve(192, 192)),
            ],
            &vb,
        )?,
        pooled(&vb),
    ];
    Ok(Branches::new(branches, &vb))
}

/// Figure 7: rows and columns side by side.
pub(super) fn e(from: usize, vb: ParameterBuilder) -> Result<Branches> {
    let fork = |row: &str, column: &str| -> Result<Vec<BasicConv>> {
        Ok(vec![
            BasicConv::new(conv(384, 384, ROW3), vb.pp(row))?,
            BasicConv::new(conv(384, 384, COLUMN3), vb.pp(column))?,
        ])
    };
    let branches = vec![
        through([("branch1x1", conv(from, 320, 1))], &vb)?,
        {
            let before = through([("branch3x3_1", conv(from, 384, 1))], &vb)?;
            Branch { fork: fork("branch3x3_2a", "branch3x3_2b")?, ..before }
        },
        {
            let layers =
                [("branch3x3dbl_1", conv(from, 448, 1)), ("branch3x3dbl_2", conv(448, 384, 3))];
            let before = through(layers, &vb)?;
            Branch { fork: fork("branch3x3dbl_3a", "branch3x3dbl_3b")?, ..before }
        },
        averaged(from, 192, &vb)?,
    ];
    Ok(Branches::new(branches, &vb))
}
