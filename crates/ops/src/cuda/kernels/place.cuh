// The position of a pack in a channels-last map.

#pragma once

struct Place {
    size_t image;
    unsigned row, column, pack;
};

// The position of pack `i` of images of `height` times `width` pixels of `packs` packs each.
__device__ inline Place place_of(size_t i, unsigned height, unsigned width, unsigned packs) {
    const size_t pixel = i / packs, line = pixel / width;
    return {line / height, unsigned(line % height), unsigned(pixel % width), unsigned(i % packs)};
}
