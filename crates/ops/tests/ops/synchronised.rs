//! Batch norm over the batches of several processes, which are threads here, against one with the whole batch.

use std::sync::{Arc, Barrier, Mutex};

use crate::support::random;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{
    AcrossRanks, Activation, BatchNormParameters, backward_from, batch_norm_train,
    batch_norm_train_across_ranks,
};

#[derive(Debug)]
struct Rank {
    number: usize,
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    given: Mutex<Vec<Option<Tensor>>>,
    barrier: Barrier,
}

impl AcrossRanks for Rank {
    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        self.group.given.lock().expect("no panic")[self.number] = Some(tensor.clone());
        self.group.barrier.wait();
        let all = self.group.given.lock().expect("no panic").iter().flatten().cloned().collect();
        self.group.barrier.wait();
        Ok(all)
    }
}

/// What a rank or the whole gives: values, running statistics' source, gradients of input, weight and bias.
struct Found {
    y: Tensor,
    moments: [Tensor; 2],
    count: usize,
    gradients: [Tensor; 4],
}

struct Case {
    x: Tensor,
    residual: Tensor,
    grad: Tensor,
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl Case {
    fn new(dtype: DType, activation: Activation) -> Result<Self> {
        let like = |name: &str, dims: &[usize]| random(name, dims).to_dtype(dtype);
        Ok(Self {
            x: (like("x", &[7, 3, 2, 5])? * 2.0)?.affine(1.0, 10.0)?,
            residual: like("residual", &[7, 3, 2, 5])?,
            grad: like("grad", &[7, 3, 2, 5])?,
            weight: like("weight", &[5])?,
            bias: like("bias", &[5])?,
            activation,
        })
    }

    /// On the images from `start` on.
    fn run(&self, start: usize, len: usize, ranks: Option<Arc<dyn AcrossRanks>>) -> Result<Found> {
        let part = |x: &Tensor| x.narrow(0, start, len)?.contiguous();
        let (x, residual) =
            (Var::from_tensor(&part(&self.x)?)?, Var::from_tensor(&part(&self.residual)?)?);
        let (weight, bias) = (Var::from_tensor(&self.weight)?, Var::from_tensor(&self.bias)?);
        let norm = BatchNormParameters::new(&weight, &bias, 1e-5);
        let residual_tensor = Some(residual.as_tensor());
        let (y, statistics) = match &ranks {
            None => batch_norm_train(&x, &norm, residual_tensor, self.activation)?,
            Some(ranks) => {
                batch_norm_train_across_ranks(&x, &norm, residual_tensor, self.activation, ranks)?
            }
        };
        let found = backward_from(&y, &part(&self.grad)?)?;
        let gradient = |var: &Var| found.get(var).expect("a gradient").clone();
        Ok(Found {
            y: y.detach(),
            moments: [statistics.mean, statistics.variance],
            count: statistics.count,
            gradients: [gradient(&x), gradient(&residual), gradient(&weight), gradient(&bias)],
        })
    }
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    (a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()
}

#[test]
fn ranks_give_what_one_process_gives_with_all_batches() -> Result<()> {
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
        for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
            let case = Case::new(dtype, activation)?;
            let whole = case.run(0, 7, None)?;
            // Batches of other sizes, of which one is a single image.
            for sizes in [vec![4, 3], vec![1, 4, 2], vec![7]] {
                let (given, barrier) =
                    (Mutex::new(vec![None; sizes.len()]), Barrier::new(sizes.len()));
                let group = Arc::new(Group { given, barrier });
                let (case, group) = (&case, &group);
                let found = std::thread::scope(|scope| {
                    let ranks: Vec<_> = sizes
                        .iter()
                        .enumerate()
                        .map(|(number, &len)| {
                            let start = sizes[..number].iter().sum();
                            let group = Arc::clone(group);
                            let rank: Arc<dyn AcrossRanks> = Arc::new(Rank { number, group });
                            scope.spawn(move || case.run(start, len, Some(rank)))
                        })
                        .collect();
                    ranks
                        .into_iter()
                        .map(|rank| rank.join().expect("no panic"))
                        .collect::<Result<Vec<_>>>()
                })?;
                let joined = |of: &dyn Fn(&Found) -> Tensor| {
                    Tensor::cat(&found.iter().map(of).collect::<Vec<_>>(), 0)
                };
                assert!(difference(&joined(&|f| f.y.clone())?, &whole.y)? < tolerance);
                for i in 0..2 {
                    let gradient = joined(&|f| f.gradients[i].clone())?;
                    assert!(
                        difference(&gradient, &whole.gradients[i])? < tolerance,
                        "{sizes:?} {i}"
                    );
                    assert!(found.iter().all(|f| f.count == whole.count));
                    for f in &found {
                        assert!(difference(&f.moments[i], &whole.moments[i])? < tolerance);
                    }
                }
                // Those of the parameters are parts of a sum.
                for i in 2..4 {
                    let parts: Vec<&Tensor> = found.iter().map(|f| &f.gradients[i]).collect();
                    let total = Tensor::stack(&parts, 0)?.sum(0)?;
                    assert!(
                        difference(&total, &whole.gradients[i])? < 10.0 * tolerance,
                        "{sizes:?} {i}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_single_value_on_all_ranks_has_no_statistics() -> Result<()> {
    let group = Group { given: Mutex::new(vec![None]), barrier: Barrier::new(1) };
    let rank: Arc<dyn AcrossRanks> = Arc::new(Rank { number: 0, group: Arc::new(group) });
    let (x, one) = (
        Tensor::ones((1, 3), DType::F32, &Device::Cpu)?,
        Tensor::ones(3, DType::F32, &Device::Cpu)?,
    );
    let norm = BatchNormParameters::new(&one, &one, 1e-5);
    let error = batch_norm_train_across_ranks(&x, &norm, None, Activation::Relu, &rank);
    let message = error.expect_err("one value").to_string();
    assert!(message.contains("more than one value per channel on all ranks together"), "{message}");
    Ok(())
}
