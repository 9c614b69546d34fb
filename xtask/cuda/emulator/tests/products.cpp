#include "tests.h"

#include <cmath>

API int cublasCreate_v2(void** handle);
API int cublasSgemmStridedBatched(void*, int, int, int, int, int, const float*, const float*, int,
                                  long long, const float*, int, long long, const float*, float*,
                                  int, long long, int);
API int cublasSgemv_v2(void*, int, int, int, const float*, const float*, int, const float*, int,
                       const float*, float*, int);

static void test_gemm(void* handle, bool transposed_a, bool transposed_b) {
    // Rows and depth past the size of a block, and columns that leave gaps in memory.
    constexpr int M = 300, N = 5, K = 270, BATCHES = 2, GAP = 3;
    const int leading_a = (transposed_a ? K : M) + GAP, leading_b = (transposed_b ? N : K) + GAP,
              leading_c = M + GAP;
    const long long stride_a = leading_a * (transposed_a ? M : K),
                    stride_b = leading_b * (transposed_b ? K : N);
    const long long stride_c = leading_c * N;
    std::vector<float> a(stride_a * BATCHES), b(stride_b * BATCHES), c(stride_c * BATCHES);
    for (size_t i = 0; i < a.size(); i++) a[i] = sample(i);
    for (size_t i = 0; i < b.size(); i++) b[i] = sample(i + 3);
    for (size_t i = 0; i < c.size(); i++) c[i] = sample(i + 5);
    const float alpha = 0.5, beta = 2, *device_a = on_device(a), *device_b = on_device(b);
    float* result = on_device(c);
    CHECK(cublasSgemmStridedBatched(handle, transposed_a, transposed_b, M, N, K, &alpha, device_a,
                                    leading_a, stride_a, device_b, leading_b, stride_b, &beta,
                                    result, leading_c, stride_c, BATCHES) == 0);
    synchronize();
    for (int batch = 0; batch < BATCHES; batch++)
        for (int row = 0; row < M; row++)
            for (int column = 0; column < N; column++) {
                double sum = 0;
                for (int k = 0; k < K; k++)
                    sum += double(a[batch * stride_a +
                                    (transposed_a ? row * leading_a + k : k * leading_a + row)]) *
                           b[batch * stride_b +
                             (transposed_b ? k * leading_b + column : column * leading_b + k)];
                const size_t place = batch * stride_c + column * leading_c + row;
                CHECK(std::fabs(result[place] - (alpha * sum + beta * c[place])) < 1e-3);
            }
}

void test_products() {
    void* handle;
    CHECK(cublasCreate_v2(&handle) == 0);
    for (int transposed = 0; transposed < 4; transposed++)
        test_gemm(handle, transposed & 1, transposed & 2);

    // [[1, 3], [2, 4]] x (5, 7), x in every second place
    const float one = 1, zero = 0, nan = NAN;
    const float *a = on_device<float>({1, 2, 3, 4}), *x = on_device<float>({5, nan, 7});
    float* y = on_device<float>({nan, nan});
    CHECK(cublasSgemv_v2(handle, 0, 2, 2, &one, a, 2, x, 2, &zero, y, 1) == 0);
    synchronize();
    CHECK(y[0] == 26 && y[1] == 38);
    CHECK(cublasSgemv_v2(handle, 1, 2, 2, &one, a, 2, x, 2, &zero, y, 1) == 0);
    synchronize();
    CHECK(y[0] == 19 && y[1] == 43);
    CHECK(cublasSgemv_v2(handle, 0, 2, 2, &one, a, 1, x, 2, &zero, y, 1) ==
          7);  // a column needs two places
}
