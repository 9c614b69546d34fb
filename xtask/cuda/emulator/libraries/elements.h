// Arrays of any float type, read into and written from the host's own types.
#pragma once

#include "../include/cuda_bf16.h"
#include "../include/cuda_fp16.h"

namespace emulated {

enum class Element { f32, f64, f16, bf16 };

inline size_t size_of(Element type) {
    return type == Element::f64 ? 8 : type == Element::f32 ? 4 : 2;
}

// Calls `use` with the array as a pointer to its own type.
template <typename Use>
void as_typed(Element type, const void* array, Use use) {
    switch (type) {
        case Element::f32:
            return use(static_cast<const float*>(array));
        case Element::f64:
            return use(static_cast<const double*>(array));
        case Element::f16:
            return use(static_cast<const __half*>(array));
        case Element::bf16:
            return use(static_cast<const __nv_bfloat16*>(array));
    }
}
template <typename Use>
void as_typed(Element type, void* array, Use use) {
    as_typed(type, static_cast<const void*>(array), [&](auto* typed) {
        use(const_cast<std::remove_const_t<std::remove_pointer_t<decltype(typed)>>*>(typed));
    });
}

// 16-bit floats convert to float only, not straight to double.
template <typename To, typename From>
To converted(From value) {
    if constexpr (std::is_arithmetic_v<From>)
        return To(value);
    else
        return To(float(value));
}

}  // namespace emulated
