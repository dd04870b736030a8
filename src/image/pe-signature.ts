// The Authenticode signatures of an EFI program: PKCS #7 SignedData over a hash of the file (Windows Authenticode Portable
// Executable Signature Format; RFC 2315). Who signed is read, and whether the file still has that hash; no chain is checked.

import { hashHex, hexDigits, readCertificate } from '../host/host.ts';
import type { Certificate, HashName } from '../host/host-types.ts';
import { ByteView } from './byte-view.ts';
import { type PeFile, readPe } from './pe.ts';

export interface PeSignature {
  /** Subject and issuer of the signer's certificate, `CN=…`; null where the signature does not hold the certificate. */
  readonly subject: string | null;
  readonly issuer: string | null;
  /** Until when the certificate is valid, as OpenSSL prints it. */
  readonly validTo: string | null;
  /** `sha256`, …; null for one that is not known here. */
  readonly algorithm: string | null;
  /** The hash that was signed, lower-case hex. */
  readonly digest: string | null;
  /** Whether the file has that hash; null where it cannot be computed. */
  readonly digestMatches: boolean | null;
}

const PKCS_SIGNED_DATA = 2;
const HASH_OIDS: Readonly<Record<string, HashName>> = {
  '2b0e03021a': 'sha1',
  '608648016503040201': 'sha256',
  '608648016503040202': 'sha384',
  '608648016503040203': 'sha512',
};
const SEQUENCE = 0x30;
const CONTEXT_0 = 0xa0;
const MOST_SIGNATURES = 16;

/** One element of DER: its tag, its bytes with tag and length, its content. */
interface Element {
  readonly tag: number;
  readonly whole: Uint8Array;
  readonly content: Uint8Array;
}

/** The elements one behind the other in `bytes`; what is damaged ends the list. */
function elements(bytes: Uint8Array): Element[] {
  const found: Element[] = [];
  let at = 0;
  while (at + 2 <= bytes.length && found.length < 64) {
    const first = bytes[at + 1]!;
    const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
    if (lengthBytes > 4 || at + 2 + lengthBytes > bytes.length) break;
    const length =
      first < 0x80
        ? first
        : bytes.subarray(at + 2, at + 2 + lengthBytes).reduce((value, byte) => value * 256 + byte, 0);
    const start = at + 2 + lengthBytes;
    if (start + length > bytes.length) break;
    found.push({
      tag: bytes[at]!,
      whole: bytes.subarray(at, start + length),
      content: bytes.subarray(start, start + length),
    });
    at = start + length;
  }
  return found;
}

/** Sets the CheckSum field and the entry of the signatures to 0, in place: as a build leaves them. */
export function clearSignatureFields(bytes: Uint8Array, pe: PeFile): void {
  const { checksumOffset, certificateEntryOffset } = pe;
  if (checksumOffset !== null) bytes.fill(0, checksumOffset, checksumOffset + 4);
  if (certificateEntryOffset !== null) bytes.fill(0, certificateEntryOffset, certificateEntryOffset + 8);
}

/**
 * A copy without signatures, which a changed image cannot have, nor what lies behind them.
 *
 * @returns with how many bytes of signatures were left out
 */
export function withoutSignatures(bytes: Uint8Array): {
  readonly bytes: Uint8Array;
  readonly removed: number;
} {
  const pe = readPe(bytes);
  const end = Math.min(pe?.certificates?.offset ?? bytes.length, bytes.length);
  const copy = Uint8Array.from(bytes.subarray(0, end));
  if (pe !== null) clearSignatureFields(copy, pe);
  return { bytes: copy, removed: pe?.certificates?.length ?? 0 };
}

/** The signatures in the file; empty for an unsigned one. */
export function readPeSignatures(bytes: Uint8Array, pe: PeFile): PeSignature[] {
  const { certificates } = pe;
  const view = new ByteView(bytes, 'PE signatures');
  if (certificates === null || !view.has(certificates.offset, certificates.length)) return [];
  const found: PeSignature[] = [];
  const end = certificates.offset + certificates.length;
  let at = certificates.offset;
  while (at + 8 <= end && found.length < MOST_SIGNATURES) {
    const length = view.u32(at);
    if (length < 8 || at + length > end) break;
    if (view.u16(at + 6) === PKCS_SIGNED_DATA) {
      const signature = readSignedData(view.slice(at + 8, length - 8), bytes, pe);
      if (signature !== null) found.push(signature);
    }
    at += Math.ceil(length / 8) * 8;
  }
  return found;
}

function readSignedData(der: Uint8Array, bytes: Uint8Array, pe: PeFile): PeSignature | null {
  const [contentInfo] = elements(der);
  const wrapped = contentInfo === undefined ? undefined : elements(contentInfo.content)[1];
  const signedData = wrapped === undefined ? undefined : elements(wrapped.content)[0];
  if (signedData?.tag !== SEQUENCE) return null;
  const [, , content, ...rest] = elements(signedData.content);
  const certificates = rest.find(({ tag }) => tag === CONTEXT_0);
  const signer = rest.at(-1);
  const { algorithm, digest } = readDigest(content);
  const certificate = signerCertificate(certificates, signer);
  const computed = algorithm === null || digest === null ? null : peDigest(bytes, pe, algorithm);
  const oneLine = (text: string): string => text.replaceAll('\n', ', ');
  return {
    subject: certificate === null ? null : oneLine(certificate.subject),
    issuer: certificate === null ? null : oneLine(certificate.issuer),
    validTo: certificate?.validTo ?? null,
    algorithm,
    digest,
    digestMatches: computed === null ? null : computed === digest,
  };
}

/** SpcIndirectDataContent: what was hashed, then the algorithm and the hash. */
function readDigest(content: Element | undefined): { algorithm: HashName | null; digest: string | null } {
  const wrapped = content === undefined ? undefined : elements(content.content)[1];
  const indirect = wrapped === undefined ? undefined : elements(wrapped.content)[0];
  const info = indirect === undefined ? undefined : elements(indirect.content)[1];
  const [algorithm, digest] = info === undefined ? [] : elements(info.content);
  const oid = algorithm === undefined ? undefined : elements(algorithm.content)[0];
  return {
    algorithm: oid === undefined ? null : (HASH_OIDS[hexDigits(oid.content)] ?? null),
    digest: digest === undefined ? null : hexDigits(digest.content),
  };
}

/** The certificate whose serial number the first SignerInfo names. */
function signerCertificate(
  certificates: Element | undefined,
  signerInfos: Element | undefined,
): Certificate | null {
  const [signer] = signerInfos === undefined ? [] : elements(signerInfos.content);
  const identifier = signer === undefined ? undefined : elements(signer.content)[1];
  const serial = identifier === undefined ? undefined : elements(identifier.content)[1];
  if (certificates === undefined || serial === undefined) return null;
  const wanted = hexDigits(serial.content).replace(/^0+/, '').toUpperCase();
  for (const { whole } of elements(certificates.content)) {
    // A damaged certificate is not the signer's.
    const certificate = readCertificate(whole);
    if (certificate?.serialNumber.replace(/^0+/, '') === wanted) return certificate;
  }
  return null;
}

/** The hash of all but the CheckSum field, the directory entry of the signatures, and the signatures themselves. */
function peDigest(bytes: Uint8Array, pe: PeFile, algorithm: HashName): string | null {
  const { checksumOffset, certificateEntryOffset, certificates } = pe;
  if (checksumOffset === null || certificateEntryOffset === null || certificates === null) return null;
  return hashHex(
    algorithm,
    bytes.subarray(0, checksumOffset),
    bytes.subarray(checksumOffset + 4, certificateEntryOffset),
    bytes.subarray(certificateEntryOffset + 8, certificates.offset),
    bytes.subarray(certificates.offset + certificates.length),
  );
}
