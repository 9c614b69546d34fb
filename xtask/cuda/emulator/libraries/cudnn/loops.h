// The convolution itself: three plain loops over channels-last float arrays.
#pragma once

#include <vector>

#include "cudnn.h"

namespace emulated {

struct Convolution {
    Block x, filter, y;
    cudnnConvolutionStruct how;

    size_t group_in() const { return filter.c; }
    size_t group_out() const { return filter.n / how.groups; }

    // Calls `visit` with the offsets of a group's channels in x and in y, and of the [in, out]
    // matrix between them in the taps, for every place of the filter that lies inside the image.
    template <typename Visit>
    void each_tap(Visit visit) const {
        for (int image = 0; image < x.n; image++)
            for (int row = 0; row < y.h; row++)
                for (int column = 0; column < y.w; column++)
                    for (int down = 0; down < filter.h; down++)
                        for (int across = 0; across < filter.w; across++) {
                            const int from_row =
                                row * how.stride_h - how.pad_h + down * how.dilation_h;
                            const int from_column =
                                column * how.stride_w - how.pad_w + across * how.dilation_w;
                            if (from_row < 0 || from_row >= x.h || from_column < 0 ||
                                from_column >= x.w)
                                continue;
                            const size_t in =
                                ((size_t(image) * x.h + from_row) * x.w + from_column) * x.c;
                            const size_t out = ((size_t(image) * y.h + row) * y.w + column) * y.c;
                            for (int group = 0; group < how.groups; group++) {
                                const size_t tap =
                                    (size_t(group) * filter.h + down) * filter.w + across;
                                visit(in + group * group_in(), out + group * group_out(),
                                      tap * group_in() * group_out());
                            }
                        }
    }
};

using Floats = std::vector<float>;

// Channels-last floats of an image, whatever its type and format, and back: y = alpha * values +
// beta * y.
Floats read_image(const Block& block, const void* data);
void write_image(const Block& block, const Floats& values, float alpha, float beta, void* data);

// Filters as taps: [group, h, w, in, out], or with `flipped` [group, h, w, out, in].
Floats read_filter(const Convolution& convolution, const void* data, bool flipped);
void write_filter(const Convolution& convolution, const std::vector<double>& taps, float alpha,
                  float beta, void* data);

Floats forward(const Convolution& convolution, const Floats& x, const Floats& taps);
Floats input_gradient(const Convolution& convolution, const Floats& flipped_taps,
                      const Floats& y_gradient);
// In double: each tap sums over all images and places, which is a long sum for a float.
std::vector<double> filter_gradient(const Convolution& convolution, const Floats& x,
                                    const Floats& y_gradient);

}  // namespace emulated
