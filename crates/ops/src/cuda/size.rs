//! Sizes that kernels and libraries can handle.

use candle_core::{Result, bail};

/// Largest number of elements for cuDNN, and largest number of rows and of columns for our kernels. Both
/// count them in 32 bits. Our kernels compute the position of an element in 64 bits.
pub(super) const MOST_ELEMENTS: usize = i32::MAX as usize;

/// Checks that kernels can count the rows and the columns (the last dimension) of an array.
///
/// # Errors
/// If there are more than [`MOST_ELEMENTS`] of either.
pub(super) fn check_rows_and_columns(dims: &[usize]) -> Result<()> {
    let columns = dims.last().copied().unwrap_or(1);
    let rows: usize = dims.iter().rev().skip(1).product();
    if rows > MOST_ELEMENTS || columns > MOST_ELEMENTS {
        bail!(
            "a tensor of shape {dims:?} has {} elements in {rows} rows of {columns}, and a CUDA kernel \
             counts at most {MOST_ELEMENTS} of either; use a smaller batch",
            rows.saturating_mul(columns)
        )
    }
    Ok(())
}

/// Converts `number`, a count of the things called `what`, to the type that libraries and kernels take.
///
/// # Errors
/// If it is more than [`MOST_ELEMENTS`].
pub(super) fn count(what: &str, number: usize) -> Result<i32> {
    match i32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => bail!(
            "there are {number} {what}, and CUDA's libraries take at most {MOST_ELEMENTS}; use a \
             smaller batch"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_elements_than_32_bits_count_are_taken_row_by_row() {
        for dims in [
            vec![],
            vec![0, 5],
            vec![MOST_ELEMENTS],
            vec![MOST_ELEMENTS, 1],
            vec![240, 2000, 2000, 3],
            vec![240, 1000, 1000, 64],
            vec![MOST_ELEMENTS, MOST_ELEMENTS],
        ] {
            check_rows_and_columns(&dims).unwrap();
        }
    }

    #[test]
    fn too_many_rows_or_columns_are_refused() {
        for (dims, elements) in [
            (vec![MOST_ELEMENTS + 1], "2147483648 elements"),
            (vec![2, 32_768, 32_768, 1], "2147483648 elements"),
            (vec![1 << 20, 1 << 12, 2], "8589934592 elements"),
        ] {
            let error = check_rows_and_columns(&dims).unwrap_err().to_string();
            let shape = format!("shape {dims:?}");
            for part in [shape.as_str(), elements, "use a smaller batch"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn numbers_that_libraries_take() {
        assert_eq!(count("rows", MOST_ELEMENTS).unwrap(), i32::MAX);
        let error = count("rows of a product", MOST_ELEMENTS + 1).unwrap_err().to_string();
        assert!(error.contains("2147483648 rows of a product"), "{error}");
    }
}
