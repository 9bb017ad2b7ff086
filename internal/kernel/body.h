// One instruction set's kernels; the including file defines TABLE and ISA.

#pragma GCC optimize("no-math-errno", "no-trapping-math")

#include <string.h>

#include "vector.h"
#include "resize.h"
#include "colour.h"
#include "blur.h"

const swav_pixels TABLE = {
    .isa = ISA,
    .resize_rows = resize_rows,
    .resize_columns = resize_columns,
    .towards = towards,
    .sum = sum,
    .sum_luma = sum_luma,
    .saturate = saturate,
    .grey = grey,
    .shift_hue = shift_hue,
    .solarize = solarize,
    .blur = blur,
    .normalise = normalise,
};
