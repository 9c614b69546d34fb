//! Captured work, launched again and again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Error, Result, Tensor, Var};
use candle_vision_ops::{
    AdamStep, AdamUpdate, Captured, Conv2dConfig, CrossEntropyConfig, Generator, ImageBatch,
    SgdStep, SgdUpdate, Targets, adam_steps, backward, conv2d, cross_entropy, cuda_device,
    drop_rows, dropout, image_batch, linear, scale, sgd_steps, upload, upload_labels,
};
use rand::SeedableRng;

use crate::twins::{cuda, random};

fn sgd(lr: f64) -> SgdStep {
    SgdStep {
        lr,
        momentum: 0.9,
        dampening: 0.0,
        weight_decay: 0.0,
        nesterov: false,
        grad_scale: 1.0,
    }
}

fn adam(step: u64, lr: f64) -> AdamStep {
    AdamStep {
        lr,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        decoupled_weight_decay: true,
        step,
        grad_scale: 1.0,
    }
}

/// A layer whose weight learns by SGD and whose bias by Adam.
struct Layer {
    weight: Var,
    bias: Var,
    state: [Var; 3],
    labels: Tensor,
}

impl Layer {
    fn new(device: &candle_core::Device) -> Result<Self> {
        let var = |name, dims: &[usize]| Var::from_tensor(&random(name, dims).to_device(device)?);
        let zeros = |dims: &[usize]| Var::zeros(dims, candle_core::DType::F32, device);
        let state = [zeros(&[3, 5])?, zeros(&[3])?, zeros(&[3])?];
        let labels = Tensor::new(&[0u32, 1, 2, 0, 1, 2, 0], device)?;
        Ok(Self { weight: var("weight", &[3, 5])?, bias: var("bias", &[3])?, state, labels })
    }

    fn gradients(&self, x: &Tensor) -> Result<[Tensor; 2]> {
        let logits = linear(x, &self.weight, Some(&self.bias))?;
        let targets = Targets::Labels(&self.labels);
        let loss = cross_entropy(&logits, targets, &CrossEntropyConfig::default())?;
        let grads = backward(&loss)?;
        let of = |var: &Var| grads.get(var).cloned().ok_or_else(|| Error::Msg("none".to_owned()));
        Ok([of(&self.weight)?, of(&self.bias)?])
    }

    fn update(&self, [weight, bias]: &[Tensor; 2], step: u64) -> Result<()> {
        let lr = 0.01 / step as f64;
        let [buffer, first_moment, second_moment] = &self.state;
        let update = SgdUpdate {
            parameter: &self.weight,
            grad: weight,
            buffer: Some(buffer),
            step: sgd(lr),
        };
        sgd_steps(&[update])?;
        let step = adam(step, lr);
        let update =
            AdamUpdate { parameter: &self.bias, grad: bias, first_moment, second_moment, step };
        adam_steps(&[update]).map(drop)
    }

    fn bits(&self) -> Result<Vec<u32>> {
        let all = [&self.weight, &self.bias].into_iter().chain(&self.state);
        let bits = |var: &Var| -> Result<Vec<u32>> {
            Ok(var.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
        };
        Ok(all.map(bits).collect::<Result<Vec<_>>>()?.concat())
    }
}

#[test]
fn replayed_steps_are_plain_steps_with_new_batches_and_rates() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let device = &cuda.device;
    let batch = |i: u64| random(&format!("x{i}"), &[7, 5]).to_device(device);
    let (plain, captured) = (Layer::new(device)?, Layer::new(device)?);
    for step in 1..=5 {
        plain.update(&plain.gradients(&batch(step)?)?, step)?;
    }
    // One step before, for what is made once.
    captured.update(&captured.gradients(&batch(1)?)?, 1)?;
    let x = batch(2)?;
    let (grads, mut work) = Captured::new(device, || {
        let grads = captured.gradients(&x)?;
        captured.update(&grads, 2)?;
        Ok::<_, Error>(grads)
    })?;
    for step in 3..=5 {
        x.slice_set(&batch(step)?, 0, 0)?;
        work.launch_with(|| captured.update(&grads, step))?;
    }
    assert_eq!(captured.bits()?, plain.bits()?);

    // Another number of steps than was captured is refused, and nothing is launched.
    let before = captured.bits()?;
    let error = work.launch_with(|| Ok::<_, Error>(())).unwrap_err().to_string();
    assert!(error.contains("numbers of parameters"), "{error}");
    assert_eq!(captured.bits()?, before);
    drop(grads);
    Ok(())
}

#[test]
fn launches_draw_from_the_stream_they_are_given() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let device = &cuda.device;
    let generator = |stream| {
        let mut generator = Generator::seed_from_u64(11);
        generator.set_stream(stream);
        generator
    };
    let x = random("x", &[20, 9]).to_device(device)?;
    let drop = |generator: &mut Generator| drop_rows(&dropout(&x, 0.5, generator)?, 0.5, generator);
    let plain = |stream| drop(&mut generator(stream))?.to_vec2::<f32>();
    plain(0)?;
    let mut words = 0;
    let (y, mut work) = Captured::new(device, || {
        let y = drop(&mut generator(5))?;
        words = Captured::drawn_words();
        Ok::<_, Error>(y)
    })?;
    assert_eq!(words, 20 * 9 + 2 * 20);
    assert_eq!(y.to_vec2::<f32>()?, plain(5)?);
    for stream in [6, 7, u64::MAX - 1] {
        work.draw_from(&generator(stream))?;
        work.launch()?;
        assert_eq!(y.to_vec2::<f32>()?, plain(stream)?);
    }
    let other = work.draw_from(&Generator::seed_from_u64(12)).unwrap_err();
    assert!(other.to_string().contains("another seed"), "{other}");
    let two = Captured::new(device, || {
        drop(&mut generator(1))?;
        drop(&mut generator(2))
    });
    assert!(two.unwrap_err().to_string().contains("several generators"));
    std::mem::drop(y);
    Ok(())
}

/// Another convolution may need a larger workspace, which then takes the place of the one that the graph writes to.
#[test]
fn a_graph_keeps_the_workspace_it_was_captured_with() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    // Of its own, whose workspace is still small.
    let device = &cuda_device(0)?;
    let images = Var::from_tensor(&random("images", &[2, 9, 9, 4]).to_device(device)?)?;
    let kernel = Var::from_tensor(&random("kernel", &[4, 4, 3, 3]).to_device(device)?)?;
    let convolved = || conv2d(&images, &kernel, None, &Conv2dConfig::default());
    let expected = convolved()?.flatten_all()?.to_vec1::<f32>()?;
    let (y, mut work) = Captured::new(device, || convolved().map(|y| y.detach()))?;
    for _ in 0..2 {
        backward(&convolved()?)?;
        work.launch()?;
        assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, expected);
    }
    drop((y, cuda));
    Ok(())
}

#[test]
fn a_panic_ends_the_capture() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let device = &cuda.device;
    let x = random("x", &[4]).to_device(device)?;
    let work = AssertUnwindSafe(|| {
        Captured::new(device, || -> Result<Tensor> {
            scale(&x, 2.0)?;
            panic!("of the work")
        })
    });
    assert!(catch_unwind(work).is_err());
    // The device would refuse to copy while it captures.
    assert_eq!(x.to_vec1::<f32>()?, random("x", &[4]).to_vec1::<f32>()?);
    let (y, _work) = Captured::new(device, || scale(&x, 2.0))?;
    assert_eq!(y.to_vec1::<f32>()?, scale(&x, 2.0)?.to_vec1::<f32>()?);
    drop(y);
    Ok(())
}

#[test]
fn what_cannot_be_captured_is_refused_and_the_device_goes_on() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let device = &cuda.device;
    let x = random("x", &[4]).to_device(device)?;
    let sum = x.sum_all()?.to_scalar::<f32>()?;
    let reads = Captured::new(device, || x.sum_all()?.to_scalar::<f32>());
    assert!(reads.is_err(), "the host reads a number");
    let copies = Captured::new(device, || Tensor::new(&[1f32, 2.0], device));
    assert!(copies.is_err(), "the host sends numbers");
    let fails = Captured::new(device, || -> Result<()> { Err(Error::Msg("own".to_owned())) });
    assert_eq!(fails.unwrap_err().to_string(), "own");
    let mut outside = Some(random("outside", &[4]).to_device(device)?);
    let frees = Captured::new(device, || {
        outside = None;
        scale(&x, 2.0)
    });
    assert!(frees.is_err(), "memory from outside is freed");
    let on_cpu = Captured::new(&candle_core::Device::Cpu, || Ok::<_, Error>(()));
    assert!(on_cpu.unwrap_err().to_string().contains("expected a CUDA device"));
    assert_eq!(x.sum_all()?.to_scalar::<f32>()?, sum);
    Ok(())
}

/// A loader's thread goes on while a step is captured.
#[test]
fn uploads_of_other_threads_wait_for_the_end_of_a_capture() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let x = random("captured beside uploads", &[3, 4]).to_device(&cuda.device)?;
    let expected = scale(&x, 2.0)?.to_vec2::<f32>()?;
    let stored = Tensor::new(&[3u8, 5], &cuda.device)?.reshape((2, 1, 1, 1))?;
    let device = cuda.device.clone();
    let brought = move || -> Result<_> {
        let batch = ImageBatch {
            indices: &[1, 0],
            labels: &[8, 9],
            steps: &[],
            ends: &[0, 0],
            scale: &[1.0],
            shift: &[0.5],
        };
        let labels = upload_labels(&[4, 2], &device)?;
        let numbers = upload(&[1.5, 2.5], 2, &device)?;
        let (images, own_labels) = image_batch(&stored, &batch, DType::F32)?;
        Ok([labels, numbers, images, own_labels])
    };
    let ((y, thread), mut captured) = Captured::new(&cuda.device, || {
        let thread = std::thread::spawn(brought);
        // Long enough for it to ask the device for something.
        std::thread::sleep(std::time::Duration::from_millis(100));
        Ok::<_, Error>((scale(&x, 2.0)?, thread))
    })?;
    let [labels, numbers, images, own_labels] = thread.join().expect("no panic")?;
    captured.launch()?;
    assert_eq!(y.to_vec2::<f32>()?, expected);
    assert_eq!(labels.to_vec1::<u32>()?, [4, 2]);
    assert_eq!(numbers.to_vec1::<f32>()?, [1.5, 2.5]);
    assert_eq!(images.flatten_all()?.to_vec1::<f32>()?, [5.5, 3.5]);
    assert_eq!(own_labels.to_vec1::<u32>()?, [8, 9]);
    drop(y);
    Ok(())
}
