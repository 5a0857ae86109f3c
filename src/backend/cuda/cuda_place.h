/* From a read's bytes to the filling wave: each chunk goes there as it was stored where the device decodes it, decoded by this
 * core otherwise. Threads: the reader's own. */
#ifndef DMC_CUDA_PLACE_H
#define DMC_CUDA_PLACE_H

#include "backend/cuda/cuda_engine.h"

/* Room in the filling wave; false: there is none, and the reader will be woken when there is. */
bool dmc_place_reserve(struct dmc_cuda_reader *reader, const struct dmc_wave_room *room, struct dmc_wave_place *place);

/* The place is written. `full`: the decoder has no more room. */
void dmc_place_written(struct dmc_cuda_reader *reader, const struct dmc_wave_place *place, bool full);

/* What decodes the chunks of this chain on the device, if anything; checksums around them are checked by the core. */
const struct dmc_cuda_codec *dmc_place_codec(const struct dmc_cuda_engine *engine, const struct dmc_codec_chain *chain);

/* All chunks of a job whose bytes are in memory. false: no room; go on later from where it stopped. */
bool dmc_place_job(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job);

/* All chunks of a job whose bytes are in a wave. false: those from job->chunk on have no place there, since the decoder has no
 * more room (`full`), or does not take the next one. */
bool dmc_place_landed(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job, bool *full);

#endif
