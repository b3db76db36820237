// CUB's collectives of one block: sums, inclusive scans and a radix sort of the block's tile.
#include <cub/block/block_load.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>

constexpr int kThreads = 64, kItems = 4, kTile = kThreads * kItems;

__global__ void tiles(const int* in, int n, int* sums, int* scanned, int* sorted) {
  using Load = cub::BlockLoad<int, kThreads, kItems, cub::BLOCK_LOAD_TRANSPOSE>;
  using Store = cub::BlockStore<int, kThreads, kItems, cub::BLOCK_STORE_TRANSPOSE>;
  using Reduce = cub::BlockReduce<int, kThreads>;
  using Scan = cub::BlockScan<int, kThreads>;
  using Sort = cub::BlockRadixSort<int, kThreads, kItems>;
  __shared__ union {
    typename Load::TempStorage load;
    typename Store::TempStorage store;
    typename Reduce::TempStorage reduce;
    typename Scan::TempStorage scan;
    typename Sort::TempStorage sort;
  } storage;
  const int base = blockIdx.x * kTile, valid = min(kTile, n - base);
  int items[kItems], scan[kItems];
  Load(storage.load).Load(in + base, items, valid, 0);
  __syncthreads();
  const int sum = Reduce(storage.reduce).Sum(items);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  __syncthreads();
  Scan(storage.scan).InclusiveSum(items, scan);
  __syncthreads();
  Store(storage.store).Store(scanned + base, scan, valid);
  __syncthreads();
  Sort(storage.sort).Sort(items);
  __syncthreads();
  Store(storage.store).Store(sorted + base, items);
}

extern "C" int block_tile() { return kTile; }
extern "C" int block_collectives(int n, const int* in, int* sums, int* scanned, int* sorted) {
  tiles<<<(n + kTile - 1) / kTile, kThreads>>>(in, n, sums, scanned, sorted);
  return static_cast<int>(cudaDeviceSynchronize());
}
