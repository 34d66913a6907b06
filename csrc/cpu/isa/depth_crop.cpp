// SPDX-License-Identifier: MIT
// Rows of the crop, a block of columns at a time: coordinates, then taps, then interpolation, each a plain loop over
// arrays that the compiler vectorises. The operations on one pixel are those of core/depth_crop.h in the same order.
#include "cpu/isa/depth_crop.h"

#include <algorithm>

#include "cpu/isa/gather.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kBlock = 128;  // columns; all of a block's arrays stay in the first-level cache

// The cells that a block of output pixels looks at along one axis.
struct Cells {
  int32_t index[kBlock];
  float fraction[kBlock];

  void set(int64_t i, Cell cell) {
    index[i] = cell.index;
    fraction[i] = cell.fraction;
  }
  Cell operator[](int64_t i) const { return {index[i], fraction[i]}; }
};

// Output pixels first..last (half open) of a block.
struct Span {
  int64_t first, last;
};

// mixed[i] = the depths stored at base[at[i]] and base[at[i] + 1], interpolated.
// The view comes by value: the compiler must see that writing `mixed` does not change it, or it will not vectorise.
template <class T, bool kReplace>
void mix_pairs(const T* base, const int32_t* at, const float* fraction, int64_t count, CropView view, float unit,
               float* mixed) {
  alignas(64) uint32_t left[kBlock], right[kBlock];
  if constexpr (sizeof(T) == 2) {  // one load brings both neighbours
    gather32<2>(base, at, count, left);
    for (int64_t i = 0; i < count; i++) {
      const float first = to_float(bit_cast<T>(static_cast<uint16_t>(left[i])));
      const float second = to_float(bit_cast<T>(static_cast<uint16_t>(left[i] >> 16)));
      mixed[i] = mix(depth_of<kReplace>(first, view, unit), depth_of<kReplace>(second, view, unit), fraction[i]);
    }
  } else {
    gather32<4>(base, at, count, left);
    gather32<4>(base + 1, at, count, right);
    for (int64_t i = 0; i < count; i++) {
      const float first = to_float(bit_cast<T>(left[i])), second = to_float(bit_cast<T>(right[i]));
      mixed[i] = mix(depth_of<kReplace>(first, view, unit), depth_of<kReplace>(second, view, unit), fraction[i]);
    }
  }
}

// What croppers have in common: a block of output columns, for which they give one row of depths after another.
template <class T>
struct RowCropper {
  RowCropper(const CropSource<T>& source, const CropGeometry& geometry) : source(source), geometry(geometry) {}

  CropSource<T> source;
  const CropGeometry& geometry;
  double offset_x[kBlock];  // normalised coordinates of the block's columns, less the transform's translation
  int64_t column, count;    // the block
  Cells x;

  // Chooses the block of columns that the rows are cropped for.
  void start_block(int64_t first_column, int64_t columns) {
    column = first_column;
    count = columns;
    for (int64_t i = 0; i < count; i++) offset_x[i] = crop_coordinate(column + i, geometry.size) - source.view.shift_x;
  }
  double offset_y(int64_t row) const { return crop_coordinate(row, geometry.size) - source.view.shift_y; }

  void pairs(const T* base, const int32_t* at, const float* fraction, Span span, float* mixed) const {
    const auto mix_span = source.replace ? mix_pairs<T, true> : mix_pairs<T, false>;
    const int64_t first = span.first;
    if (span.first < span.last)
      mix_span(base, at + first, fraction + first, span.last - first, source.view, source.unit, mixed + first);
  }
};

// Without a transform all rows look at the same columns of the frame.
template <class T>
class UprightCropper : RowCropper<T> {
 public:
  using RowCropper<T>::RowCropper;

  void start_block(int64_t first_column, int64_t columns) {
    RowCropper<T>::start_block(first_column, columns);
    const CropView& view = source.view;
    for (int64_t i = 0; i < count; i++)
      x.set(i, cell_at(place_u(view, offset_x[i], 0), static_cast<double>(source.width)));
    inside_ = {0, count};
    while (inside_.first < count && x.index[inside_.first] < 0) inside_.first++;
    while (inside_.last > inside_.first && x.index[inside_.last - 1] + 1 >= source.width) inside_.last--;
    held_[0] = held_[1] = kNone;
  }

  void depths(int64_t row, float* depth) {
    const Cell y = cell_of_row(row);
    prefetch(cell_of_row(row + kAhead).index);
    const float* upper = frame_row(y.index);
    const float* lower = frame_row(y.index + 1);
    for (int64_t i = 0; i < count; i++) depth[i] = mix(upper[i], lower[i], y.fraction);
  }

 private:
  using RowCropper<T>::source, RowCropper<T>::x, RowCropper<T>::offset_x, RowCropper<T>::count;
  static constexpr int64_t kNone = -3;
  static constexpr int64_t kAhead = 2;  // output rows

  Cell cell_of_row(int64_t row) const {
    return cell_at(place_v(source.view, 0, this->offset_y(row)), static_cast<double>(source.height));
  }

  // The pieces of rows that a crop reads are too short for the hardware to foresee the next ones.
  void prefetch(int64_t row) const {
    if (row < 0 || row + 1 >= source.height || inside_.first == inside_.last) return;
    const T* upper = source.frame + row * source.row_stride;
    for (int64_t at = x.index[inside_.first]; at <= x.index[inside_.last - 1] + 1; at += 64 / sizeof(T)) {
      __builtin_prefetch(upper + at);
      __builtin_prefetch(upper + source.row_stride + at);
    }
  }

  // A row of the frame, interpolated at the block's columns. Of two neighbouring rows one is often still held.
  const float* frame_row(int32_t row) {
    float* mixed = rows_[row & 1];
    if (held_[row & 1] == row) return mixed;
    held_[row & 1] = row;
    if (row < 0 || row >= source.height) {
      std::fill_n(mixed, count, source.view.background);
      return mixed;
    }
    for (int64_t i = 0; i < inside_.first; i++) mixed[i] = source.across(x[i], row);
    for (int64_t i = inside_.last; i < count; i++) mixed[i] = source.across(x[i], row);
    this->pairs(source.frame + row * source.row_stride, x.index, x.fraction, inside_, mixed);
    return mixed;
  }

  Span inside_;  // both columns of the cell lie in the frame
  int64_t held_[2];
  alignas(64) float rows_[2][kBlock];
};

template <class T>
class TransformedCropper : RowCropper<T> {
 public:
  using RowCropper<T>::RowCropper;

  using RowCropper<T>::start_block;

  void depths(int64_t row, float* depth) {
    const CropView& view = source.view;
    const double dy = this->offset_y(row);
    const double width = static_cast<double>(source.width), height = static_cast<double>(source.height);
    for (int64_t i = 0; i < count; i++) {
      x.set(i, cell_at(place_u(view, offset_x[i], dy), width));
      y_.set(i, cell_at(place_v(view, offset_x[i], dy), height));
    }
    const Span inside = find_inside();
    for (int64_t i = 0; i < inside.first; i++) depth[i] = depth_at(source, {x[i], y_[i]}, false);
    for (int64_t i = inside.last; i < count; i++) depth[i] = depth_at(source, {x[i], y_[i]}, false);
    if (inside.first == inside.last) return;

    // The taps' places count from the uppermost row in sight, so that they fit 32 bits in frames of any size.
    const auto [top, bottom] = std::minmax(y_.index[inside.first], y_.index[inside.last - 1]);
    if ((static_cast<int64_t>(bottom) - top + 2) * source.row_stride > INT32_MAX) {
      for (int64_t i = inside.first; i < inside.last; i++) depth[i] = depth_at(source, {x[i], y_[i]}, false);
      return;
    }
    const int32_t stride = static_cast<int32_t>(source.row_stride), first_row = top;
    alignas(64) int32_t at[kBlock];
    alignas(64) float upper[kBlock], lower[kBlock];
    for (int64_t i = inside.first; i < inside.last; i++) at[i] = (y_.index[i] - first_row) * stride + x.index[i];
    const T* base = source.frame + first_row * source.row_stride;
    this->pairs(base, at, x.fraction, inside, upper);
    this->pairs(base + source.row_stride, at, x.fraction, inside, lower);
    for (int64_t i = inside.first; i < inside.last; i++) depth[i] = mix(upper[i], lower[i], y_.fraction[i]);
  }

 private:
  using RowCropper<T>::source, RowCropper<T>::x, RowCropper<T>::offset_x, RowCropper<T>::count;

  bool is_inside(int64_t i) const {
    return x.index[i] >= 0 && x.index[i] + 1 < source.width && y_.index[i] >= 0 && y_.index[i] + 1 < source.height;
  }
  // A row looks along a straight line, whose part inside the frame has no gaps.
  Span find_inside() const {
    Span span{0, count};
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

  using RowCropper<T>::start_block;

  void depths(int64_t row, float* depth) {
    for (int64_t i = 0; i < this->count; i++)
      depth[i] = depth_at(this->source, look_of_pixel(this->source, this->geometry, row, this->column + i), true);
  }
};

void store_row(void* crop, DType dtype, int64_t at, const float* values, int64_t count) {
  visit_crop(dtype, [&]<class C>(Type<C>) {
    C* out = static_cast<C*>(crop) + at;
    for (int64_t i = 0; i < count; i++) out[i] = from_float<C>(values[i]);
  });
}

// Rows first..last of one sample.
template <class Cropper, class T>
void crop_rows(const DepthCrop& p, const CropSource<T>& source, int64_t sample, int64_t first, int64_t last) {
  const int64_t size = p.geometry.size;
  const CropView view = source.view;
  Cropper cropper(source, p.geometry);
  alignas(64) float depth[kBlock];
  for (int64_t column = 0; column < size; column += kBlock) {
    const int64_t count = std::min(kBlock, size - column);
    cropper.start_block(column, count);
    for (int64_t row = first; row < last; row++) {
      cropper.depths(row, depth);
      for (int64_t i = 0; i < count; i++) depth[i] = normalized_depth(depth[i], view);
      store_row(p.crop, p.crop_dtype, (sample * size + row) * size + column, depth, count);
    }
  }
}

void fill_with_nan(const DepthCrop& p, int64_t sample, int64_t first, int64_t last) {
  const int64_t size = p.geometry.size;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int64_t at = (sample * size + first) * size; at < (sample * size + last) * size; at++)
    store_row(p.crop, p.crop_dtype, at, &nan, 1);
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
        crop_rows<NearestCropper<T>>(p, source, sample, start, end);
      else if (p.geometry.transform)
        crop_rows<TransformedCropper<T>>(p, source, sample, start, end);
      else
        crop_rows<UprightCropper<T>>(p, source, sample, start, end);
    }
  });
}

}  // namespace poseren::cpu
