// libcublas: matrix products. Operands are brought into float (or double) column-major buffers,
// multiplied by plain loops and rounded once into C. Matrices are column-major, as cuBLAS has them.

#include <vector>

#include "../driver/memory.h"
#include "../driver/streams.h"
#include "elements.h"

using emulated::Element;

enum cublasStatus_t { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum cublasOperation_t { NORMAL = 0, TRANSPOSED = 1, CONJUGATED = 2 };
enum cudaDataType_t { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum cublasComputeType_t {
    COMPUTE_16F = 64,
    COMPUTE_16F_PEDANTIC = 65,
    COMPUTE_32F = 68,
    COMPUTE_64F = 70,
    COMPUTE_64F_PEDANTIC = 71
};

struct cublasContext {
    void* stream = nullptr;
    int math_mode = 0;
};
using cublasHandle_t = cublasContext*;

namespace {

struct Matrix {
    const void* data;
    Element type;
    long long leading, stride;  // stride: from one matrix of a batch to the next
    bool transposed = false;
};

bool element_of(cudaDataType_t type, Element& element) {
    switch (type) {
        case R_32F:
            element = Element::f32;
            return true;
        case R_64F:
            element = Element::f64;
            return true;
        case R_16F:
            element = Element::f16;
            return true;
        case R_16BF:
            element = Element::bf16;
            return true;
    }
    return false;
}

// op(matrix) of `rows` x `columns`, packed column-major.
template <typename T>
std::vector<T> packed(const Matrix& matrix, long long batch, size_t rows, size_t columns) {
    std::vector<T> out(rows * columns);
    emulated::as_typed(matrix.type, matrix.data, [&](auto* data) {
        data += batch * matrix.stride;
        const size_t down = matrix.transposed ? matrix.leading : 1,
                     across = matrix.transposed ? 1 : matrix.leading;
        for (size_t column = 0; column < columns; column++)
            for (size_t row = 0; row < rows; row++)
                out[column * rows + row] =
                    emulated::converted<T>(data[row * down + column * across]);
    });
    return out;
}

// a [rows, depth] x b [depth, columns]. Blocks keep the part of `a` in use in the cache; a block's
// sum is made apart from the total, so that long float sums lose less.
template <typename T>
std::vector<T> product(const std::vector<T>& a, const std::vector<T>& b, size_t rows,
                       size_t columns, size_t depth) {
    constexpr size_t ROWS = 256, DEPTH = 256;
    std::vector<T> c(rows * columns, T(0));
    for (size_t row = 0; row < rows; row += ROWS)
        for (size_t first = 0; first < depth; first += DEPTH)
            for (size_t column = 0; column < columns; column++) {
                const size_t height = min(ROWS, rows - row), end = min(first + DEPTH, depth);
                T part[ROWS] = {};
                for (size_t k = first; k < end; k++) {
                    const T factor = b[column * depth + k];
                    const T* values = &a[k * rows + row];
                    for (size_t i = 0; i < height; i++) part[i] += values[i] * factor;
                }
                for (size_t i = 0; i < height; i++) c[column * rows + row + i] += part[i];
            }
    return c;
}

void require(const Matrix& matrix, size_t rows, size_t columns, int batches, const char* who) {
    if (matrix.transposed) std::swap(rows, columns);
    if (rows == 0 || columns == 0) return;
    const size_t last = matrix.stride * (batches - 1) + (columns - 1) * matrix.leading + rows;
    emulated_require_device(matrix.data, last * emulated::size_of(matrix.type), who);
}

template <typename T>
void multiply(size_t m, size_t n, size_t k, T alpha, const Matrix& a, const Matrix& b, T beta,
              const Matrix& c, int batches) {
    require(a, m, k, batches, "matrix product, A");
    require(b, k, n, batches, "matrix product, B");
    require(c, m, n, batches, "matrix product, C");
    for (int batch = 0; batch < batches; batch++) {
        const std::vector<T> sums =
            product(packed<T>(a, batch, m, k), packed<T>(b, batch, k, n), m, n, k);
        emulated::as_typed(c.type, const_cast<void*>(c.data), [&](auto* out) {
            out += batch * c.stride;
            for (size_t column = 0; column < n; column++)
                for (size_t row = 0; row < m; row++) {
                    auto& place = out[column * c.leading + row];
                    // With beta 0 the old value isn't read: it may be NaN.
                    const T old = beta == 0 ? T(0) : beta * emulated::converted<T>(place);
                    place = alpha * sums[column * m + row] + old;
                }
        });
    }
}

cublasStatus_t gemm(cublasHandle_t handle, cublasComputeType_t compute, int m, int n, int k,
                    const void* alpha, const Matrix& a, const Matrix& b, const void* beta,
                    const Matrix& c, int batches) {
    if (!handle) return NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || batches < 0) return INVALID_VALUE;
    if (a.leading < (a.transposed ? k : m) || b.leading < (b.transposed ? n : k) || c.leading < m)
        return INVALID_VALUE;
    if (m == 0 || n == 0 || batches == 0) return SUCCESS;
    const auto enqueue = [&](auto alpha, auto beta) {
        emulated_compute(handle->stream, "cuBLAS product",
                         [=] { multiply(m, n, k, alpha, a, b, beta, c, batches); });
    };
    switch (compute) {
        case COMPUTE_64F:
        case COMPUTE_64F_PEDANTIC:
            enqueue(*static_cast<const double*>(alpha), *static_cast<const double*>(beta));
            break;
        // Sums are in float even where cuBLAS may keep them in half; only the factors' type
        // differs.
        case COMPUTE_16F:
        case COMPUTE_16F_PEDANTIC:
            enqueue(float(*static_cast<const __half*>(alpha)),
                    float(*static_cast<const __half*>(beta)));
            break;
        default:
            enqueue(*static_cast<const float*>(alpha), *static_cast<const float*>(beta));
    }
    return SUCCESS;
}

}  // namespace

API cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    *handle = new cublasContext;
    return SUCCESS;
}

API cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    delete handle;
    return SUCCESS;
}

API cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, void* stream) {
    if (!handle) return NOT_INITIALIZED;
    handle->stream = stream;
    return SUCCESS;
}

API cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void*, size_t) {
    return handle ? SUCCESS : NOT_INITIALIZED;
}

API cublasStatus_t cublasSetMathMode(cublasHandle_t handle, int mode) {
    handle->math_mode = mode;
    return SUCCESS;
}

API cublasStatus_t cublasGetMathMode(cublasHandle_t handle, int* mode) {
    *mode = handle->math_mode;
    return SUCCESS;
}

API cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
    const void* alpha, const void* a, cudaDataType_t type_a, int leading_a, long long stride_a,
    const void* b, cudaDataType_t type_b, int leading_b, long long stride_b, const void* beta,
    void* c, cudaDataType_t type_c, int leading_c, long long stride_c, int batches,
    cublasComputeType_t compute, int) {
    Element element_a, element_b, element_c;
    if (!element_of(type_a, element_a) || !element_of(type_b, element_b) ||
        !element_of(type_c, element_c))
        return NOT_SUPPORTED;
    if (element_a != element_b) return NOT_SUPPORTED;
    return gemm(handle, compute, m, n, k, alpha,
                {a, element_a, leading_a, stride_a, op_a != NORMAL},
                {b, element_b, leading_b, stride_b, op_b != NORMAL}, beta,
                {c, element_c, leading_c, stride_c}, batches);
}

API cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a,
                                cublasOperation_t op_b, int m, int n, int k, const void* alpha,
                                const void* a, cudaDataType_t type_a, int leading_a, const void* b,
                                cudaDataType_t type_b, int leading_b, const void* beta, void* c,
                                cudaDataType_t type_c, int leading_c, cublasComputeType_t compute,
                                int algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, leading_a, 0,
                                      b, type_b, leading_b, 0, beta, c, type_c, leading_c, 0, 1,
                                      compute, algorithm);
}

// The typed entries: S for float, D for double.
#define TYPED(letter, real, type, compute)                                                         \
    API cublasStatus_t cublas##letter##gemmStridedBatched(                                         \
        cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,       \
        int k, const real* alpha, const real* a, int leading_a, long long stride_a, const real* b, \
        int leading_b, long long stride_b, const real* beta, real* c, int leading_c,               \
        long long stride_c, int batches) {                                                         \
        return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type, leading_a,  \
                                          stride_a, b, type, leading_b, stride_b, beta, c, type,   \
                                          leading_c, stride_c, batches, compute, 0);               \
    }                                                                                              \
    API cublasStatus_t cublas##letter##gemm_v2(                                                    \
        cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,       \
        int k, const real* alpha, const real* a, int leading_a, const real* b, int leading_b,      \
        const real* beta, real* c, int leading_c) {                                                \
        return cublas##letter##gemmStridedBatched(handle, op_a, op_b, m, n, k, alpha, a,           \
                                                  leading_a, 0, b, leading_b, 0, beta, c,          \
                                                  leading_c, 0, 1);                                \
    }                                                                                              \
    /* y = alpha op(A) x + beta y: x and y are matrices of one row, whose columns lie `step`       \
     * apart. */                                                                                   \
    API cublasStatus_t cublas##letter##gemv_v2(cublasHandle_t handle, cublasOperation_t op, int m, \
                                               int n, const real* alpha, const real* a,            \
                                               int leading, const real* x, int step_x,             \
                                               const real* beta, real* y, int step_y) {            \
        const int rows = op == NORMAL ? m : n, depth = op == NORMAL ? n : m;                       \
        return cublas##letter##gemm_v2(handle, NORMAL, op == NORMAL ? TRANSPOSED : NORMAL, 1,      \
                                       rows, depth, alpha, x, step_x, a, leading, beta, y,         \
                                       step_y);                                                    \
    }
TYPED(S, float, R_32F, COMPUTE_32F)
TYPED(D, double, R_64F, COMPUTE_64F)
