/*
 * hash - checksums, digests, and a table with a keyed hash, for keys that strangers choose.
 */
#ifndef UTIL_HASH_H
#define UTIL_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/str.h"

/* CRC-32C (Castagnoli), with the processor's instruction where there is one. Start and continue with crc 0 / the last result. */
uint32_t crc32c(uint32_t crc, const void *p, size_t len);

/* SHA-1, incremental (nettle behind it). The GUID of a message is the SHA-1 of its octets. */
#define GUID_SIZE 20
struct digest { uint64_t state[16]; };            /* room for nettle's context */
void digest_init(struct digest *h);
void digest_update(struct digest *h, const void *p, size_t len);
void digest_final(struct digest *h, uint8_t out[GUID_SIZE]);

void hex_encode(char *out, const void *p, size_t len);                  /* 2*len lower-case digits and a NUL */
bool hex_decode(void *out, struct span hex);                            /* hex.len/2 octets; false when out of grammar */

/* Keyed hash (SipHash-1-3 with a key of this process); not for the disk. */
uint64_t hash_keyed(const void *p, size_t len);

/* The same with a key that is no secret and never changes: for the disk. Strangers can make keys of the same hash. */
uint64_t hash_fixed(const void *p, size_t len);
/* A keyed hash of a number, cheaper than the above: a bijection of this process. For tables in memory whose keys strangers choose. */
uint64_t hash_number(uint64_t n);

/* Random octets from the system's generator; aborts when there is none. */
void random_bytes(void *p, size_t len);

/*
 * table - octet string → pointer. Keys are copied. Not locked. Iteration order is arbitrary.
 */
struct table;
struct table *table_create(void);
void table_destroy(struct table **t);                                   /* not the values */
void *table_find(const struct table *t, struct span key);
/* Set; returns the former value or NULL. A NULL value removes the key. */
void *table_set(struct table *t, struct span key, void *value);
size_t table_count(const struct table *t);
/* Start with *pos = 0; returns false at the end. The table must not change meanwhile, but the present key may be removed. */
bool table_next(const struct table *t, size_t *pos, struct span *key_r, void **value_r);

#endif
