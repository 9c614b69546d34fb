// ReLUs with a ceiling, which may be infinite. A NaN stays one and lets gradients through, as
// in PyTorch: that is why these are comparisons and not `fmaxf`, which drops NaNs.

#pragma once

__device__ inline float relu_up_to(float x, float ceiling) {
    return x < 0.0f ? 0.0f : x > ceiling ? ceiling : x;
}

// What of `grad` passes back through a ReLU that was given `x`, or gave it.
__device__ inline float masked(float x, float grad, float ceiling) {
    return x <= 0.0f || x >= ceiling ? 0.0f : grad;
}
