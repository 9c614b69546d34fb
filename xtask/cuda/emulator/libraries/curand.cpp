// libcurand: numbers of the right distribution, not cuRAND's own sequence.

#include <random>

#include "../driver/memory.h"
#include "../driver/streams.h"

enum curandStatus_t { SUCCESS = 0, LENGTH_NOT_MULTIPLE = 105 };

struct curandGenerator_st {
    void* stream = nullptr;
    std::mt19937_64 engine;
};
using curandGenerator_t = curandGenerator_st*;

namespace {

template <typename T, typename Distribution>
curandStatus_t fill(curandGenerator_t generator, T* out, size_t count, Distribution distribution) {
    emulated_compute(generator->stream, "cuRAND numbers", [=]() mutable {
        emulated_require_device(out, count * sizeof(T), "random numbers");
        for (size_t i = 0; i < count; i++) out[i] = distribution(generator->engine);
    });
    return SUCCESS;
}

// cuRAND's uniform numbers lie in (0, 1], the standard library's in [0, 1).
template <typename T>
curandStatus_t uniform(curandGenerator_t generator, T* out, size_t count) {
    return fill(generator, out, count,
                [](auto& engine) { return 1 - std::uniform_real_distribution<T>()(engine); });
}

// Box and Muller's method makes two at a time, so cuRAND takes only even counts.
template <typename T>
curandStatus_t normal(curandGenerator_t generator, T* out, size_t count, T mean, T deviation) {
    if (count % 2) return LENGTH_NOT_MULTIPLE;
    return fill(generator, out, count, std::normal_distribution<T>(mean, deviation));
}

}  // namespace

API curandStatus_t curandCreateGenerator(curandGenerator_t* generator, int) {
    *generator = new curandGenerator_st;
    return SUCCESS;
}

API curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
    emulated_enqueue(generator->stream, [=] { delete generator; });
    return SUCCESS;
}

API curandStatus_t curandSetStream(curandGenerator_t generator, void* stream) {
    generator->stream = stream;
    return SUCCESS;
}

API curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator,
                                                      unsigned long long seed) {
    emulated_enqueue(generator->stream, [=] { generator->engine.seed(seed); });
    return SUCCESS;
}

API curandStatus_t curandGenerateUniform(curandGenerator_t generator, float* out, size_t count) {
    return uniform(generator, out, count);
}

API curandStatus_t curandGenerateUniformDouble(curandGenerator_t generator, double* out,
                                               size_t count) {
    return uniform(generator, out, count);
}

API curandStatus_t curandGenerateNormal(curandGenerator_t generator, float* out, size_t count,
                                        float mean, float deviation) {
    return normal(generator, out, count, mean, deviation);
}

API curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator, double* out,
                                              size_t count, double mean, double deviation) {
    return normal(generator, out, count, mean, deviation);
}
