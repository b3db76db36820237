// Block and device algorithms of CUB.
#include <cub/cub.cuh>

template <class T>
__global__ void block_algorithms(T* data) {
  using Sort = cub::BlockRadixSort<T, 128, 4>;
  using Reduce = cub::BlockReduce<T, 128>;
  using Scan = cub::BlockScan<T, 128>;
  __shared__ union {
    typename Sort::TempStorage sort;
    typename Reduce::TempStorage reduce;
    typename Scan::TempStorage scan;
  } storage;
  T keys[4];
  for (int i = 0; i < 4; ++i) keys[i] = data[threadIdx.x * 4 + i];
  Sort(storage.sort).Sort(keys);
  __syncthreads();
  T before;
  Scan(storage.scan).InclusiveSum(keys[0], before);
  __syncthreads();
  const T sum = Reduce(storage.reduce).Sum(keys[1]);
  for (int i = 0; i < 4; ++i) data[threadIdx.x * 4 + i] = keys[i] + before + sum;
}
template __global__ void block_algorithms<int>(int*);

void device_algorithms(void* storage, size_t& bytes, unsigned* in, unsigned* out, int count) {
  cub::DeviceRadixSort::SortKeys(storage, bytes, in, out, count);
  cub::DeviceReduce::Sum(storage, bytes, in, out, count);
}
