// Protocols that some machines' firmware has and others' has not, by the names that a user knows them by.

/** `rng`: random numbers; `memory-attribute`: pages made read-only or not executable; `tcg` and `tcg2`: a TPM 1.2 and 2.0. */
export const OPTIONAL_PROTOCOLS = ['rng', 'memory-attribute', 'tcg', 'tcg2'] as const;
export type OptionalProtocol = (typeof OPTIONAL_PROTOCOLS)[number];
