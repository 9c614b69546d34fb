//! Hooks on gradients.

use std::sync::{Arc, Mutex};

use crate::support::{check_error, check_gradients, random};
use candle_core::{Device, Result, Tensor, Var, bail};
use candle_vision_ops::on_gradient;

#[test]
fn sees_the_gradient_of_an_intermediate_tensor() -> Result<()> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let x = Var::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
    let square = x.sqr()?;
    let record = seen.clone();
    let hooked = on_gradient(&square, move |grad| {
        record.lock().expect("not poisoned").push(grad.to_vec1::<f32>()?);
        Ok(None)
    })?;
    assert_eq!(hooked.to_vec1::<f32>()?, square.to_vec1::<f32>()?);
    assert!(seen.lock().expect("not poisoned").is_empty(), "only `backward` calls the closure");
    // Two uses: the closure sees their sum, once.
    let y = ((&hooked * 5.0)?.sum_all()? + hooked.sqr()?.sum_all()?)?;
    let dx = y.backward()?.remove(&x).expect("a gradient");
    assert_eq!(*seen.lock().expect("not poisoned"), [[7.0, 13.0, 23.0]]);
    assert_eq!(dx.to_vec1::<f32>()?, [14.0, 52.0, 138.0]);
    Ok(())
}

#[test]
fn changes_what_flows_on() -> Result<()> {
    let x = Var::new(&[1f32, -2.0], &Device::Cpu)?;
    let hooked = on_gradient(&x, |grad| Ok(Some(grad.relu()?)))?;
    let y = (&hooked * &Tensor::new(&[3f32, -4.0], &Device::Cpu)?)?;
    let dx = y.sum_all()?.backward()?.remove(&x).expect("a gradient");
    assert_eq!(dx.to_vec1::<f32>()?, [3.0, 0.0]);
    Ok(())
}

#[test]
fn leaves_gradients_right() {
    let x = [random("identity", &[3, 4, 5])];
    check_gradients("identity", &x, |x| on_gradient(&x[0].sqr()?, |_| Ok(None)));
    check_gradients("view", &x, |x| on_gradient(&x[0].transpose(0, 2)?, |_| Ok(None)));
}

#[test]
fn is_never_called_where_no_gradient_flows() -> Result<()> {
    let frozen = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
    let x = Var::new(&[3f32, 4.0], &Device::Cpu)?;
    let hooked = on_gradient(&frozen, |_| bail!("called"))?;
    let gradients = (&hooked * x.as_tensor())?.sum_all()?.backward()?;
    assert_eq!(gradients.get(&x).expect("a gradient").to_vec1::<f32>()?, [1.0, 2.0]);
    Ok(())
}

#[test]
fn errors_reach_the_caller_of_backward() -> Result<()> {
    let x = Var::new(&[1f32, 2.0], &Device::Cpu)?;
    let failing = on_gradient(&x, |_| bail!("stop here"))?;
    check_error(failing.sum_all()?.backward(), &["stop here"]);
    let misshapen = on_gradient(&x, |grad| Ok(Some(grad.sum_all()?)))?;
    check_error(misshapen.sum_all()?.backward(), &["on_gradient", "[]", "[2]"]);
    Ok(())
}
