/* What the device may say of a chunk; shared with kernels, so plain C and C++ alike. */
#ifndef DMC_CUDA_STATUS_H
#define DMC_CUDA_STATUS_H

/* What a chunk's status on the device may say; anything but 0 means: to the CPU. */
enum dmc_cuda_status {
    DMC_CUDA_STATUS_OK = 0,
    DMC_CUDA_STATUS_TREE = 1,      /* Huffman tree malformed, or of more than 11 bits */
    DMC_CUDA_STATUS_LITERALS = 2,  /* a Huffman stream that does not end where it should */
    DMC_CUDA_STATUS_TABLE = 3,     /* FSE table malformed */
    DMC_CUDA_STATUS_SEQUENCES = 4, /* the stream of sequences does not end where it should */
    DMC_CUDA_STATUS_OFFSET = 5,    /* a match that reaches before the frame's first byte */
    DMC_CUDA_STATUS_LENGTH = 6,    /* more or fewer bytes than the headers promise */
    DMC_CUDA_STATUS_LZ4 = 7,       /* an lz4 stream that is cut off or too long */
    DMC_CUDA_STATUS_CHECKSUM = 8,  /* the checksum of the decoded bytes differs */
    DMC_CUDA_STATUS_FOREIGN = 9,   /* a stream that its library did not decode */
};

#endif
