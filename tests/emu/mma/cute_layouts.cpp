// Prints the fragment layouts of the CuTe traits: one line a trait and matrix, the coordinates of every (lane, value).
#include <cstdio>
#include <cute/atom/mma_traits_sm120.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm89.hpp>
#include <cute/atom/mma_traits_sm90.hpp>

using namespace cute;

// A (lane, value) layout gives row + rows * col of an (rows x cols) matrix.
template <class Layout>
void print_layout(const char* name, const char* matrix, Layout const& layout, int rows) {
  std::printf("%s %s", name, matrix);
  const int values = size(layout) / 32;
  for (int lane = 0; lane < 32; ++lane) {
    for (int value = 0; value < values; ++value) {
      const int at = layout(lane, value);
      std::printf(" %d,%d", at % rows, at / rows);
    }
  }
  std::printf("\n");
}

template <class Operation>
void print_atom(const char* name) {
  using Traits = MMA_Traits<Operation>;
  const int m = size<0>(typename Traits::Shape_MNK{});
  print_layout(name, "a", typename Traits::ALayout{}, m);
  print_layout(name, "b", typename Traits::BLayout{}, 8);
  print_layout(name, "c", typename Traits::CLayout{}, m);
}

template <class Operation>
void print_scaled(const char* name) {
  using Traits = MMA_Traits<Operation>;
  print_atom<Operation>(name);
  print_layout(name, "sa", typename Traits::SFALayout{}, 16);
  print_layout(name, "sb", typename Traits::SFBLayout{}, 8);
}

int main() {
  print_atom<SM80_8x8x128_S32U1U1S32_TN_ANDPOPC>("m8n8k128_b1");
  // The ALayout of 16x8x128 does not compile: its stride has one level more than its shape.
  using B1 = MMA_Traits<SM80_16x8x128_S32U1U1S32_TN_XORPOPC>;
  print_layout("m16n8k128_b1", "b", B1::BLayout{}, 8);
  print_layout("m16n8k128_b1", "c", B1::CLayout{}, 16);
  print_atom<SM80_16x8x256_S32U1U1S32_TN_ANDPOPC>("m16n8k256_b1");
  print_atom<SM80_8x8x32_S32S4S4S32_TN>("m8n8k32_s4");
  print_atom<SM80_16x8x32_S32S4S4S32_TN>("m16n8k32_s4");
  print_atom<SM80_16x8x64_S32S4S4S32_TN>("m16n8k64_s4");
  print_atom<SM80_8x8x16_S32S8S8S32_TN>("m8n8k16_s8");
  print_atom<SM80_16x8x16_S32S8S8S32_TN>("m16n8k16_s8");
  print_atom<SM80_16x8x32_S32S8S8S32_TN>("m16n8k32_s8");
  print_atom<SM80_16x8x8_F16F16F16F16_TN>("m16n8k8_f16");
  print_atom<SM80_16x8x16_F32F16F16F32_TN>("m16n8k16_f16");
  print_atom<SM80_16x8x8_F32BF16BF16F32_TN>("m16n8k8_bf16");
  print_atom<SM80_16x8x16_F32BF16BF16F32_TN>("m16n8k16_bf16");
  print_atom<SM80_16x8x4_F32TF32TF32F32_TN>("m16n8k4_tf32");
  print_atom<SM80_16x8x8_F32TF32TF32F32_TN>("m16n8k8_tf32");
  print_atom<SM80_8x8x4_F64F64F64F64_TN>("m8n8k4_f64");
  print_atom<SM90_16x8x4_F64F64F64F64_TN>("m16n8k4_f64");
  print_atom<SM90_16x8x8_F64F64F64F64_TN>("m16n8k8_f64");
  print_atom<SM90_16x8x16_F64F64F64F64_TN>("m16n8k16_f64");
  print_atom<SM89_16x8x32_F32E4M3E4M3F32_TN>("m16n8k32_f8");
  print_atom<SM120_16x8x32_TN<float_e2m1_t, float_e4m3_t, float>>("m16n8k32_f8f6f4");
  print_scaled<SM120::BLOCKSCALED::SM120_16x8x32_TN_VS<float_e4m3_t, float_e4m3_t, float, float_ue8m0_t, 32>>(
      "m16n8k32_mxf8f6f4");
  print_scaled<SM120::BLOCKSCALED::SM120_16x8x64_TN_VS<float_e2m1_t, float_e2m1_t, float, float_ue4m3_t, 16>>(
      "m16n8k64_mxf4");
}
