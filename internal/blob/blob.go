// Package blob is the port to content-addressed storage of bytes too big or too
// many for the Store: the files of bundle snapshots, large XComs, archived logs.
//
// A blob is named by the SHA-256 of its content, so it never changes and putting
// it twice is harmless. A driver is a folder (fileblob) or a bucket; package
// blobtest is the suite that every driver passes.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// ErrHashMismatch says that the bytes are not those that the hash names: the
// reader given to Put is refused, a stored blob is damaged.
var ErrHashMismatch = errors.New("content does not match its hash")

// Store keeps blobs. All methods may be called concurrently, also by several
// processes on the same storage. Errors wrap airflow.ErrNotFound,
// ErrHashMismatch or the cause.
type Store interface {
	// Put stores what r yields under hash. It is durable when Put returns. If the
	// blob exists r need not be read and its time is renewed (see Delete). Content
	// with another hash is ErrHashMismatch and nothing is stored.
	Put(ctx context.Context, hash string, r io.Reader) error
	// Get opens a blob; absent is airflow.ErrNotFound. The caller closes it, and
	// verifies the content where damage matters (Verify).
	Get(ctx context.Context, hash string) (io.ReadCloser, error)
	// Has reports whether a blob is stored.
	Has(ctx context.Context, hash string) (bool, error)
	// Delete removes a blob that was last put before the given time and reports
	// whether it did; the zero time removes it whatever its age. Absent is fine.
	// A collector thus never removes what somebody has just put again.
	Delete(ctx context.Context, hash string, before time.Time) (bool, error)
	// List calls f for every blob, in no particular order, until f returns an
	// error, which List returns. Blobs put or deleted meanwhile may be missed.
	List(ctx context.Context, f func(Info) error) error
}

// Info describes a stored blob.
type Info struct {
	Hash string
	Size int64     // bytes
	Put  time.Time // last Put
}

// HashLength is the length of a hash: SHA-256 in lower-case hex.
const HashLength = 2 * sha256.Size

// Hash returns the name of a blob with this content.
func Hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// CheckHash reports why s is not a hash. Drivers call it before s becomes part
// of a path or key.
func CheckHash(s string) error {
	if len(s) != HashLength {
		return fmt.Errorf("blob: %q is not a hash: expected %d lower-case hex digits", s, HashLength)
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("blob: %q is not a hash: expected %d lower-case hex digits", s, HashLength)
		}
	}
	return nil
}

// NotFound returns the error of Get for an absent blob.
func NotFound(hash string) error { return fmt.Errorf("blob %s: %w", hash, airflow.ErrNotFound) }

// Verify returns a reader of r that ends with ErrHashMismatch instead of io.EOF
// if what was read is not the content of hash.
func Verify(hash string, r io.Reader) io.Reader {
	h := sha256.New()
	return &verifier{r: io.TeeReader(r, h), sum: func() string { return hex.EncodeToString(h.Sum(nil)) }, want: hash}
}

type verifier struct {
	r    io.Reader
	sum  func() string
	want string
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	if err == io.EOF {
		if got := v.sum(); got != v.want {
			return n, fmt.Errorf("blob %s: %w (it is that of %s)", v.want, ErrHashMismatch, got)
		}
	}
	return n, err
}
