// ReLUs with a ceiling, which may be infinite. A NaN stays NaN and lets gradients through, as in
// PyTorch. That is why these are comparisons and not `fmaxf`, which drops NaNs.

#pragma once

__device__ inline float relu_up_to(float x, float ceiling) {
    return x < 0.0f ? 0.0f : x > ceiling ? ceiling : x;
}

// The part of `grad` that passes back through a ReLU. `x` is the ReLU's input or its output.
__device__ inline float masked(float x, float grad, float ceiling) {
    return x <= 0.0f || x >= ceiling ? 0.0f : grad;
}
