// SPDX-License-Identifier: MIT
// Rows of the crop, a block of columns at a time: coordinates, then taps, then interpolation, each a plain loop over
// arrays that the compiler vectorises. The operations on one pixel are those of core/depth_crop.h in the same order.
#include "cpu/isa/depth_crop.h"

#include <algorithm>
#include <type_traits>

#include "cpu/fetch.h"
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

// Two neighbouring stored values for each of some output pixels.
template <class T>
struct StoredPairs {
  alignas(64) uint32_t left[kBlock];   // of 16-bit values: both
  alignas(64) uint32_t right[kBlock];  // of 32-bit values

  // Those at base[at[i]] and base[at[i] + 1].
  void gather(const T* base, const int32_t* at, int64_t count) {
    gather32<sizeof(T)>(base, at, count, left);
    if constexpr (sizeof(T) == 4) gather32<4>(base + 1, at, count, right);
  }
  float first(int64_t i) const {
    if constexpr (sizeof(T) == 4)
      return to_float(bit_cast<T>(left[i]));
    else
      return half_word(left[i] & 0xffff);
  }
  float second(int64_t i) const {
    if constexpr (sizeof(T) == 4)
      return to_float(bit_cast<T>(right[i]));
    else
      return half_word(left[i] >> 16);
  }

 private:
  static float half_word(uint32_t bits) {
    // Whole numbers stay 32 bits wide: on their way through T compilers pack them and take them apart again.
    if constexpr (std::is_same_v<T, uint16_t>)
      return static_cast<float>(static_cast<int32_t>(bits));
    else
      return to_float(bit_cast<T>(static_cast<uint16_t>(bits)));
  }
};

// mixed[i] = the depths of pair i, interpolated.
// The view comes by value: the compiler must see that writing `mixed` does not change it, or it will not vectorise.
template <class T, bool kReplace>
void mix_pairs(const StoredPairs<T>& pairs, const float* fraction, int64_t count, CropView view, float unit,
               float* __restrict mixed) {
  for (int64_t i = 0; i < count; i++)
    mixed[i] = mix(depth_of<kReplace>(pairs.first(i), view, unit), depth_of<kReplace>(pairs.second(i), view, unit),
                   fraction[i]);
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

  // The depths of the pairs that the block's pixels from `first` on look at, interpolated.
  void mix(const StoredPairs<T>& pairs, int64_t first, int64_t pixels, float* mixed) const {
    const auto mix_some = source.replace ? mix_pairs<T, true> : mix_pairs<T, false>;
    mix_some(pairs, x.fraction + first, pixels, source.view, source.unit, mixed + first);
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
    if (sizeof(T) == 2) picker_.plan(x.index + inside_.first, inside_.last - inside_.first, source.width);
    held_[0] = held_[1] = kNone;
  }

  void depths(int64_t row, float* depth) {
    const Cell y = cell_of_row(row);
    const int64_t ahead = cell_of_row(row + kAhead).index;
    fetch_row(ahead);  // one row before each that is mixed: not all requests at once
    const float* upper = frame_row(y.index);
    fetch_row(ahead + 1);
    const float* lower = frame_row(y.index + 1);
    for (int64_t i = 0; i < count; i++) depth[i] = poseren::mix(upper[i], lower[i], y.fraction);
  }

 private:
  using RowCropper<T>::source, RowCropper<T>::x, RowCropper<T>::offset_x, RowCropper<T>::count;
  static constexpr int64_t kNone = -3;
  static constexpr int64_t kAhead = 4;  // output rows

  Cell cell_of_row(int64_t row) const {
    return cell_at(place_v(source.view, 0, this->offset_y(row)), static_cast<double>(source.height));
  }

  // The pieces of rows that a crop reads are too short for the hardware to foresee the next ones.
  void fetch_row(int64_t row) const {
    if (row < 0 || row >= source.height || inside_.first == inside_.last) return;
    const int64_t left = x.index[inside_.first], right = x.index[inside_.last - 1] + 2;
    fetch<1>(source.frame + row * source.row_stride + left, (right - left) * sizeof(T));
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
    const T* stored = source.frame + row * source.row_stride;
    const int64_t first = inside_.first, pixels = inside_.last - first;
    if constexpr (sizeof(T) == 2)
      picker_.pick(reinterpret_cast<const uint16_t*>(stored), pairs_.left);
    else
      pairs_.gather(stored, x.index + first, pixels);
    this->mix(pairs_, first, pixels, mixed);
    return mixed;
  }

  Span inside_;  // both columns of the cell lie in the frame
  PairPicker<kBlock> picker_;
  StoredPairs<T> pairs_;
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
    StoredPairs<T> pairs;
    const int64_t first = inside.first, pixels = inside.last - first;
    pairs.gather(base, at + first, pixels);
    this->mix(pairs, first, pixels, upper);
    pairs.gather(base + source.row_stride, at + first, pixels);
    this->mix(pairs, first, pixels, lower);
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

// depth [count] as the crop holds it, from its element `at` on.
template <class C>
void store_row(const float* depth, int64_t count, CropView view, void* crop, int64_t at) {
  C* __restrict out = static_cast<C*>(crop) + at;
  for (int64_t i = 0; i < count; i++) out[i] = from_float<C>(normalized_depth(depth[i], view));
}

using StoreRow = void (*)(const float* depth, int64_t count, CropView view, void* crop, int64_t at);

StoreRow store_row_as(DType dtype) {
  return visit_crop(dtype, []<class C>(Type<C>) -> StoreRow { return store_row<C>; });
}

// Rows first..last of one sample.
template <class Cropper, class T>
void crop_rows(const DepthCrop& p, const CropSource<T>& source, int64_t sample, int64_t first, int64_t last) {
  const int64_t size = p.geometry.size;
  const StoreRow store = store_row_as(p.crop_dtype);
  Cropper cropper(source, p.geometry);
  alignas(64) float depth[kBlock];
  for (int64_t column = 0; column < size; column += kBlock) {
    const int64_t count = std::min(kBlock, size - column);
    cropper.start_block(column, count);
    for (int64_t row = first; row < last; row++) {
      cropper.depths(row, depth);
      store(depth, count, source.view, p.crop, (sample * size + row) * size + column);
    }
  }
}

void fill_with_nan(const DepthCrop& p, int64_t sample, int64_t first, int64_t last) {
  const int64_t size = p.geometry.size;
  const StoreRow store = store_row_as(p.crop_dtype);
  const float nan = kNaN<float>;
  for (int64_t at = (sample * size + first) * size; at < (sample * size + last) * size; at++)
    store(&nan, 1, CropView{}, p.crop, at);
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
