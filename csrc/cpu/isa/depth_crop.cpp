// SPDX-License-Identifier: MIT
// Rows of the crop, a block of columns at a time: first the positions of its pixels, then, for groups of pixels, taps
// and interpolation in plain loops that compilers vectorise. A pixel takes the operations of core/depth_crop.h in the
// same order.
#include "cpu/isa/kernels.h"

#include <algorithm>
#include <type_traits>

#include "cpu/prefetch.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kBlock = 128;  // columns; the arrays of a block fit in L1
constexpr int64_t kRows = 32;    // prepared at once; as many again are prefetched
static_assert(2 * kRows <= kBlock);

// The positions of a block of output pixels along one axis of the frame.
struct Cells {
  int32_t index[kBlock];
  float fraction[kBlock];

  void set(int64_t i, Cell cell) {
    index[i] = cell.index;
    fraction[i] = cell.fraction;
  }
  Cell operator[](int64_t i) const { return {index[i], fraction[i]}; }
};

// Two neighbouring stored values: the first in the low half.
template <class T>
using Pair = std::conditional_t<sizeof(T) == 2, uint32_t, uint64_t>;

template <class T>
POSEREN_HD inline float low_half(Pair<T> pair) {
  // Keep integers 32 bits wide: converted through uint16_t, compilers pack and unpack them.
  if constexpr (std::is_same_v<T, uint16_t>)
    return static_cast<float>(static_cast<int32_t>(pair & 0xffff));
  else
    return to_float(bit_cast<T>(static_cast<std::conditional_t<sizeof(T) == 2, uint16_t, uint32_t>>(pair)));
}

// The same for every pixel of a row.
struct Same {
  float value;
  float operator[](int64_t) const { return value; }
};

// The base of the croppers: a block of output columns, of which they compute one row after another.
template <class T>
struct RowCropper {
  RowCropper(const CropSource<T>& source, const CropGeometry& geometry) : source(source), geometry(geometry) {}

  CropSource<T> source;
  const CropGeometry& geometry;
  double offset_x[kBlock];  // normalised coordinates of the columns minus the transform's translation
  int64_t column, count;    // the block
  Cells x;

  // Chooses the block of columns that the rows are cropped for.
  void start_block(int64_t first_column, int64_t columns) {
    column = first_column;
    count = columns;
    for (int64_t i = 0; i < count; i++) offset_x[i] = crop_coordinate(column + i, geometry.size) - source.view.shift_x;
  }
  // Called before every kRows rows with all remaining rows.
  void start_rows(Range) {}
  double offset_y(int64_t row) const { return crop_coordinate(row, geometry.size) - source.view.shift_y; }
  float value_at(const FramePoint& point) const {
    return normalized_depth(depth_at(source, point, false), source.view);
  }
  // The pixels `inside`, whose four taps lie in the frame: the first one at base[at[i]].
  void mix_inside(Range inside, const T* base, const int32_t* at, const auto& y_fraction, float* out) const {
    source.replace ? mix_taps<true>(inside, base, at, y_fraction, out)
                   : mix_taps<false>(inside, base, at, y_fraction, out);
  }

 private:
  // Scalar loads of pairs, then vector arithmetic: gathers are slower (measured on Zen 4).
  // The view is copied: a reference could alias `out`, which prevents vectorisation.
  template <bool kReplace>
  void mix_taps(Range inside, const T* base, const int32_t* at, const auto& y_fraction, float* __restrict out) const {
    const CropView view = source.view;
    const float unit = source.unit;
    alignas(64) Pair<T> upper[kBlock], lower[kBlock];
    for (int64_t i = inside.first; i < inside.last; i++) {
      memcpy(upper + i, base + at[i], sizeof(Pair<T>));
      memcpy(lower + i, base + source.row_stride + at[i], sizeof(Pair<T>));
    }
    const auto across = [&](Pair<T> pair, int64_t i) __attribute__((always_inline)) {
      return mix(depth_of<kReplace>(low_half<T>(pair), view, unit),
                 depth_of<kReplace>(low_half<T>(pair >> (8 * sizeof(T))), view, unit), x.fraction[i]);
    };
    for (int64_t i = inside.first; i < inside.last; i++)
      out[i] = normalized_depth(mix(across(upper[i], i), across(lower[i], i), y_fraction[i]), view);
  }
};

// Without a transform all rows read the same columns of the frame.
template <class T>
class UprightCropper : RowCropper<T> {
 public:
  using RowCropper<T>::RowCropper;

  void start_block(int64_t first_column, int64_t columns) {
    RowCropper<T>::start_block(first_column, columns);
    prefetched_ = 0;
    for (int64_t i = 0; i < count; i++)
      x.set(i, cell_at(frame_u(source.view, offset_x[i], 0), static_cast<double>(source.width)));
    touching_ = narrow({0, count}, -1, source.width - 1);
    inside_ = narrow(touching_, 0, source.width - 2);
  }

  void start_rows(Range rows) {
    first_row_ = rows.first;
    const int64_t ahead = std::min(rows.first + 2 * kRows, rows.last);
    for (int64_t row = rows.first; row < ahead; row++)
      y_.set(row - first_row_,
             cell_at(frame_v(source.view, 0, this->offset_y(row)), static_cast<double>(source.height)));
    // Parts of rows are too short for the hardware prefetcher.
    int64_t y = 0;
    for (int64_t row = std::max(rows.first, prefetched_); row < ahead; row++) {
      const int64_t upper = y_.index[row - first_row_];
      prefetch_rows<2>(std::max(y, upper), upper + 2);
      y = upper + 2;
    }
    prefetched_ = ahead;
  }

  void row(int64_t row, float* out) {
    const Cell y = y_[row - first_row_];
    if (const int64_t next = row + 1; next < prefetched_)
      prefetch_rows<1>(y_.index[next - first_row_], y_.index[next - first_row_] + 2);
    const bool touches = y.index >= -1 && y.index < source.height;
    const bool is_inside = y.index >= 0 && y.index + 1 < source.height;
    const Range touching = touches ? touching_ : Range{count, count};
    const Range inside = is_inside ? inside_ : Range{touching.last, touching.last};
    fill({0, touching.first}, y.fraction, out);
    for (int64_t i = touching.first; i < inside.first; i++) out[i] = this->value_at({x[i], y});
    for (int64_t i = inside.last; i < touching.last; i++) out[i] = this->value_at({x[i], y});
    fill({touching.last, count}, y.fraction, out);
    if (inside.size() == 0) return;  // an empty frame has no pointer to add to
    this->mix_inside(inside, source.frame + y.index * source.row_stride, x.index, Same{y.fraction}, out);
  }

 private:
  using RowCropper<T>::source, RowCropper<T>::x, RowCropper<T>::offset_x, RowCropper<T>::count;

  // The pixels whose cells lie in columns first..last (inclusive).
  Range narrow(Range pixels, int64_t first, int64_t last) const {
    while (pixels.first < pixels.last && x.index[pixels.first] < first) pixels.first++;
    while (pixels.first < pixels.last && x.index[pixels.last - 1] > last) pixels.last--;
    return pixels;
  }

  // Pixels whose taps all lie outside the frame.
  void fill(Range pixels, float y_fraction, float* out) const {
    const CropView view = source.view;
    for (int64_t i = pixels.first; i < pixels.last; i++) {
      const float across = mix(view.background, view.background, x.fraction[i]);
      out[i] = normalized_depth(mix(across, across, y_fraction), view);
    }
  }

  // Prefetches the parts of frame rows that are read.
  template <int kLevel>
  void prefetch_rows(int64_t first, int64_t last) const {
    if (inside_.size() == 0) return;
    const int64_t left = x.index[inside_.first], right = x.index[inside_.last - 1] + 2;
    for (int64_t y = std::max<int64_t>(first, 0); y < std::min(last, source.height); y++)
      prefetch<kLevel>(source.frame + y * source.row_stride + left, (right - left) * sizeof(T));
  }

  Cells y_;                         // of the rows from first_row_ on
  int64_t first_row_, prefetched_;  // rows before prefetched_ are prefetched
  Range touching_, inside_;         // one column of the cell lies in the frame, both do
};

template <class T>
class TransformedCropper : RowCropper<T> {
 public:
  using RowCropper<T>::RowCropper;

  using RowCropper<T>::start_block, RowCropper<T>::start_rows;

  void row(int64_t row, float* out) {
    const CropView& view = source.view;
    const double dy = this->offset_y(row);
    const double width = static_cast<double>(source.width), height = static_cast<double>(source.height);
    for (int64_t i = 0; i < count; i++) {
      x.set(i, cell_at(frame_u(view, offset_x[i], dy), width));
      y_.set(i, cell_at(frame_v(view, offset_x[i], dy), height));
    }
    const Range inside = find_inside();
    for (int64_t i = 0; i < inside.first; i++) out[i] = this->value_at({x[i], y_[i]});
    for (int64_t i = inside.last; i < count; i++) out[i] = this->value_at({x[i], y_[i]});
    if (inside.first == inside.last) return;

    // Offsets count from the topmost row that is read, so that they fit in 32 bits in frames of any size.
    const auto [top, bottom] = std::minmax(y_.index[inside.first], y_.index[inside.last - 1]);
    if ((static_cast<int64_t>(bottom) - top + 2) * source.row_stride > INT32_MAX) {
      for (int64_t i = inside.first; i < inside.last; i++) out[i] = this->value_at({x[i], y_[i]});
      return;
    }
    const int32_t stride = static_cast<int32_t>(source.row_stride);
    alignas(64) int32_t at[kBlock];
    for (int64_t i = inside.first; i < inside.last; i++) at[i] = (y_.index[i] - top) * stride + x.index[i];
    this->mix_inside(inside, source.frame + int64_t{top} * source.row_stride, at, y_.fraction, out);
  }

 private:
  using RowCropper<T>::source, RowCropper<T>::x, RowCropper<T>::offset_x, RowCropper<T>::count;

  bool is_inside(int64_t i) const {
    return x.index[i] >= 0 && x.index[i] + 1 < source.width && y_.index[i] >= 0 && y_.index[i] + 1 < source.height;
  }
  // A row follows a straight line, whose part inside the frame has no gaps.
  Range find_inside() const {
    Range span{0, count};
    while (span.first < span.last && !is_inside(span.first)) span.first++;
    while (span.last > span.first && !is_inside(span.last - 1)) span.last--;
    return span;
  }

  Cells y_;
};

template <class T>
class NearestCropper : RowCropper<T> {
 public:
  using RowCropper<T>::RowCropper;

  using RowCropper<T>::start_block, RowCropper<T>::start_rows;

  void row(int64_t row, float* out) {
    for (int64_t i = 0; i < this->count; i++)
      out[i] = depth_at(this->source, frame_point(this->source, this->geometry, row, this->column + i), true);
    const CropView view = this->source.view;
    for (int64_t i = 0; i < this->count; i++) out[i] = normalized_depth(out[i], view);
  }
};

// Converts values [count] to the dtype of the crop and stores them from element `at` on.
template <class C>
void store_row(const float* values, int64_t count, void* crop, int64_t at) {
  C* __restrict out = static_cast<C*>(crop) + at;
  for (int64_t i = 0; i < count; i++) out[i] = from_float<C>(values[i]);
}

// Rows of one sample.
template <class Cropper, class T>
void crop_rows(const DepthCrop& p, const CropSource<T>& source, int64_t sample, Range rows) {
  const int64_t size = p.geometry.size;
  Cropper cropper(source, p.geometry);
  visit_crop(p.crop_dtype, [&]<class C>(Type<C>) {
    for (int64_t column = 0; column < size; column += kBlock) {
      const int64_t count = std::min(kBlock, size - column);
      cropper.start_block(column, count);
      for (int64_t row = rows.first; row < rows.last; row++) {
        if ((row - rows.first) % kRows == 0) cropper.start_rows({row, rows.last});
        const int64_t at = (sample * size + row) * size + column;
        if constexpr (std::is_same_v<C, float>) {
          cropper.row(row, static_cast<float*>(p.crop) + at);
        } else {
          alignas(64) float values[kBlock];
          cropper.row(row, values);
          store_row<C>(values, count, p.crop, at);
        }
      }
    }
  });
}

void fill_with_nan(const DepthCrop& p, int64_t sample, int64_t first, int64_t last) {
  const int64_t size = p.geometry.size;
  const float nan = kNaN<float>;
  visit_crop(p.crop_dtype, [&]<class C>(Type<C>) {
    for (int64_t at = (sample * size + first) * size; at < (sample * size + last) * size; at++)
      store_row<C>(&nan, 1, p.crop, at);
  });
}

}  // namespace

template <>
void depth_crop_rows<POSEREN_ISA>(const DepthCrop& p, int64_t first, int64_t last) {
  const int64_t size = p.geometry.size;
  visit_depth(p.depth.dtype, [&]<class T>(Type<T>) {
    for (int64_t row = first; row < last;) {
      const int64_t sample = row / size;
      const int64_t start = row - sample * size, end = std::min(size, last - sample * size);
      row = sample * size + end;
      const CropSource<T> source = crop_source<T>(p.depth, p.geometry, sample);
      if (!source.view.usable)
        fill_with_nan(p, sample, start, end);
      else if (p.geometry.nearest)
        crop_rows<NearestCropper<T>>(p, source, sample, {start, end});
      else if (p.geometry.transform)
        crop_rows<TransformedCropper<T>>(p, source, sample, {start, end});
      else
        crop_rows<UprightCropper<T>>(p, source, sample, {start, end});
    }
  });
}

}  // namespace poseren::cpu
