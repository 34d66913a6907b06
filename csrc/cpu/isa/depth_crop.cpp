// SPDX-License-Identifier: MIT
// Rows of the crop, a block of columns at a time: where its pixels look, then, for a group of pixels at once, their
// taps and the interpolation, in plain loops that the compiler turns into vector instructions. The operations on one
// pixel are those of core/depth_crop.h in the same order.
#include "cpu/isa/depth_crop.h"

#include <algorithm>
#include <type_traits>

#include "cpu/fetch.h"
#include "cpu/isa/gather.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kBlock = 128;  // columns; all of a block's arrays stay in the first-level cache
constexpr int64_t kRows = 32;    // prepared at once; for as many again what they look at is fetched
static_assert(2 * kRows <= kBlock);

// The cells that a block of output pixels looks at along one axis.
struct Cells {
  int32_t index[kBlock];
  float fraction[kBlock + kGroup] = {};  // groups may reach beyond the block

  void set(int64_t i, Cell cell) {
    index[i] = cell.index;
    fraction[i] = cell.fraction;
  }
  Cell operator[](int64_t i) const { return {index[i], fraction[i]}; }
};

// Items first..last, half open.
struct Span {
  int64_t first, last;
  int64_t size() const { return last - first; }
};

// Two neighbouring stored values for each pixel of a group.
template <class T>
struct StoredPairs {
  alignas(64) uint32_t left[kGroup] = {};   // of 16-bit values: both
  alignas(64) uint32_t right[kGroup] = {};  // of 32-bit values

  // Those at base[at[i]] and base[at[i] + 1].
  POSEREN_HD void gather(const T* base, const int32_t* at, int64_t count) {
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

// A unit of 1 mm, known to the compiler: it leaves the products out.
struct Millimetre {
  operator float() const { return 1; }
};

// The same for every pixel of a group.
struct Same {
  float value;
  float operator[](int64_t) const { return value; }
};

// out[i] = the crop's value between the pairs i of two neighbouring rows.
// The view comes by value: the compiler must see that writing `out` does not change it, or it will not vectorise.
template <bool kReplace, class T>
POSEREN_HD inline void mix_pairs(const StoredPairs<T>& upper, const StoredPairs<T>& lower, const float* x_fraction,
                                 const auto& y_fraction, CropView view, auto unit, float* out) {
  alignas(64) float value[kGroup];
  for (int64_t i = 0; i < kGroup; i++) {
    const auto across = [&](const StoredPairs<T>& pairs) __attribute__((always_inline)) {
      return mix(depth_of<kReplace>(pairs.first(i), view, unit), depth_of<kReplace>(pairs.second(i), view, unit),
                 x_fraction[i]);
    };
    value[i] = normalized_depth(mix(across(upper), across(lower), y_fraction[i]), view);
  }
  memcpy(out, value, sizeof(value));
}

// mix(group, where its values go) for the groups of `pixels`, whose values belong at out[i]. It always gives kGroup.
template <class Mix>
POSEREN_HD inline void for_groups(Span pixels, float* out, const Mix& mix) {
  int64_t i = pixels.first;
  for (; i + kGroup <= pixels.last; i += kGroup) mix(Span{i, i + kGroup}, out + i);
  if (i == pixels.last) return;
  float last[kGroup];
  mix(Span{i, pixels.last}, last);
  std::copy_n(last, pixels.last - i, out + i);
}

// visit<whether invalid values are replaced>(unit)
template <class T, class Visit>
void visit_stored(const CropSource<T>& source, const Visit& visit) {
  if (source.replace)
    source.unit == 1 ? visit.template operator()<true>(Millimetre{}) : visit.template operator()<true>(source.unit);
  else
    source.unit == 1 ? visit.template operator()<false>(Millimetre{}) : visit.template operator()<false>(source.unit);
}

// What croppers have in common: a block of output columns, of which they give one row after another.
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
  // Called before every kRows rows, with all that are still to come.
  void start_rows(Span) {}
  double offset_y(int64_t row) const { return crop_coordinate(row, geometry.size) - source.view.shift_y; }
  float value_at(const Look& look) const { return normalized_depth(depth_at(source, look, false), source.view); }
};

// Without a transform all rows look at the same columns of the frame.
template <class T>
class UprightCropper : RowCropper<T> {
 public:
  using RowCropper<T>::RowCropper;

  void start_block(int64_t first_column, int64_t columns) {
    RowCropper<T>::start_block(first_column, columns);
    ahead_ = 0;
    for (int64_t i = 0; i < count; i++)
      x.set(i, cell_at(place_u(source.view, offset_x[i], 0), static_cast<double>(source.width)));
    touching_ = narrow({0, count}, -1, source.width - 1);
    inside_ = narrow(touching_, 0, source.width - 2);
    if constexpr (sizeof(T) == 2) are_near_ = picker_.plan(x.index + inside_.first, inside_.size(), source.width);
  }

  void start_rows(Span rows) {
    first_row_ = rows.first;
    const int64_t ahead = std::min(rows.first + 2 * kRows, rows.last);
    for (int64_t row = rows.first; row < ahead; row++)
      y_.set(row - first_row_,
             cell_at(place_v(source.view, 0, this->offset_y(row)), static_cast<double>(source.height)));
    // Pieces of rows are too short for the hardware to foresee the next.
    int64_t y = 0;
    for (int64_t row = std::max(rows.first, ahead_); row < ahead; row++) {
      const int64_t upper = y_.index[row - first_row_];
      fetch_rows<2>(std::max(y, upper), upper + 2);
      y = upper + 2;
    }
    ahead_ = ahead;
  }

  void row(int64_t row, float* out) {
    const Cell y = y_[row - first_row_];
    if (const int64_t next = row + 1; next < ahead_)
      fetch_rows<1>(y_.index[next - first_row_], y_.index[next - first_row_] + 2);
    const bool touches = y.index >= -1 && y.index < source.height;
    const bool is_inside = y.index >= 0 && y.index + 1 < source.height;
    const Span touching = touches ? touching_ : Span{count, count};
    const Span inside = is_inside ? inside_ : Span{touching.last, touching.last};
    fill({0, touching.first}, y.fraction, out);
    for (int64_t i = touching.first; i < inside.first; i++) out[i] = this->value_at({x[i], y});
    for (int64_t i = inside.last; i < touching.last; i++) out[i] = this->value_at({x[i], y});
    fill({touching.last, count}, y.fraction, out);
    if (inside.size() == 0) return;
    if constexpr (sizeof(T) == 2)
      if (are_near_)
        return mix_row(y, out, [this](const T* row, Span group, StoredPairs<T>& pairs) {
          picker_.pick(row, (group.first - inside_.first) / kGroup, pairs.left);
        });
    mix_row(y, out, [this](const T* row, Span group, StoredPairs<T>& pairs) {
      pairs.gather(row, x.index + group.first, group.size());
    });
  }

 private:
  using RowCropper<T>::source, RowCropper<T>::x, RowCropper<T>::offset_x, RowCropper<T>::count;

  // Those of the pixels whose cells lie in the columns first..last (inclusive).
  Span narrow(Span pixels, int64_t first, int64_t last) const {
    while (pixels.first < pixels.last && x.index[pixels.first] < first) pixels.first++;
    while (pixels.first < pixels.last && x.index[pixels.last - 1] > last) pixels.last--;
    return pixels;
  }

  // Pixels whose taps all lie beside the frame.
  void fill(Span pixels, float y_fraction, float* out) const {
    const CropView view = source.view;
    for (int64_t i = pixels.first; i < pixels.last; i++) {
      const float across = mix(view.background, view.background, x.fraction[i]);
      out[i] = normalized_depth(mix(across, across, y_fraction), view);
    }
  }

  // load(row of the frame, group, its pairs)
  template <class Load>
  void mix_row(Cell y, float* out, const Load& load) const {
    visit_stored(source, [&]<bool kReplace>(auto unit) { mix_row_of<kReplace>(y, unit, out, load); });
  }

  template <bool kReplace, class Unit, class Load>
  void mix_row_of(Cell y, Unit unit, float* out, const Load& load) const {
    const T* upper_row = source.frame + y.index * source.row_stride;
    const CropView view = source.view;
    for_groups(inside_, out, [&](Span group, float* mixed) __attribute__((always_inline)) {
      StoredPairs<T> upper, lower;
      load(upper_row, group, upper);
      load(upper_row + source.row_stride, group, lower);
      mix_pairs<kReplace>(upper, lower, x.fraction + group.first, Same{y.fraction}, view, unit, mixed);
    });
  }

  // Starts to bring what is read of the frame's rows to the cache of that level.
  template <int kLevel>
  void fetch_rows(int64_t first, int64_t last) const {
    if (inside_.size() == 0) return;
    const int64_t left = x.index[inside_.first], right = x.index[inside_.last - 1] + 2;
    for (int64_t y = std::max<int64_t>(first, 0); y < std::min(last, source.height); y++)
      fetch<kLevel>(source.frame + y * source.row_stride + left, (right - left) * sizeof(T));
  }

  Cells y_;                    // of the rows from first_row_ on
  int64_t first_row_, ahead_;  // those before ahead_ are fetched
  Span touching_, inside_;     // one column of the cell, or both, lie in the frame
  PairPicker<kBlock> picker_;
  bool are_near_;  // the picker can be used
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
      x.set(i, cell_at(place_u(view, offset_x[i], dy), width));
      y_.set(i, cell_at(place_v(view, offset_x[i], dy), height));
    }
    const Span inside = find_inside();
    for (int64_t i = 0; i < inside.first; i++) out[i] = this->value_at({x[i], y_[i]});
    for (int64_t i = inside.last; i < count; i++) out[i] = this->value_at({x[i], y_[i]});
    if (inside.first == inside.last) return;

    // The taps' places count from the uppermost row in sight, so that they fit 32 bits in frames of any size.
    const auto [top, bottom] = std::minmax(y_.index[inside.first], y_.index[inside.last - 1]);
    if ((static_cast<int64_t>(bottom) - top + 2) * source.row_stride > INT32_MAX) {
      for (int64_t i = inside.first; i < inside.last; i++) out[i] = this->value_at({x[i], y_[i]});
      return;
    }
    visit_stored(source, [&]<bool kReplace>(auto unit) { mix_inside<kReplace>(inside, top, unit, out); });
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

  // The pixels `inside`, whose taps lie in the frame's row `top` or below.
  template <bool kReplace, class Unit>
  void mix_inside(Span inside, int64_t top, Unit unit, float* out) const {
    const T* base = source.frame + top * source.row_stride;
    const int32_t stride = static_cast<int32_t>(source.row_stride), first_row = static_cast<int32_t>(top);
    const CropView view = source.view;
    alignas(64) int32_t at[kBlock];
    for (int64_t i = inside.first; i < inside.last; i++) at[i] = (y_.index[i] - first_row) * stride + x.index[i];
    for_groups(inside, out, [&](Span group, float* mixed) __attribute__((always_inline)) {
      const int64_t i = group.first;
      StoredPairs<T> upper, lower;
      upper.gather(base, at + i, group.size());
      lower.gather(base + source.row_stride, at + i, group.size());
      mix_pairs<kReplace>(upper, lower, x.fraction + i, y_.fraction + i, view, unit, mixed);
    });
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
      out[i] = depth_at(this->source, look_of_pixel(this->source, this->geometry, row, this->column + i), true);
    const CropView view = this->source.view;
    for (int64_t i = 0; i < this->count; i++) out[i] = normalized_depth(out[i], view);
  }
};

// values [count] as the crop holds them, from its element `at` on.
template <class C>
void store_row(const float* values, int64_t count, void* crop, int64_t at) {
  C* __restrict out = static_cast<C*>(crop) + at;
  for (int64_t i = 0; i < count; i++) out[i] = from_float<C>(values[i]);
}

// Rows first..last of one sample.
template <class Cropper, class T>
void crop_rows(const DepthCrop& p, const CropSource<T>& source, int64_t sample, Span rows) {
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
