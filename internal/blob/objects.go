package blob

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
)

// Objects keeps bytes under keys that the caller chooses, beside the
// content-addressed blobs: XComs too big for the Store, task logs. All methods may
// be called concurrently. Errors wrap airflow.ErrNotFound, airflow.ErrThrottled,
// airflow.ErrUnavailable, airflow.ErrNotAllowed, *airflow.InvalidError (a key that
// cannot be used; see CheckKey) or the cause.
type Objects interface {
	// Put stores content under key, replacing what was there. It is durable when
	// Put returns; a reader sees all of the old or all of the new content.
	Put(ctx context.Context, key string, content []byte) error
	// Get returns the content; absent is airflow.ErrNotFound. Content that was
	// damaged is an error.
	Get(ctx context.Context, key string) ([]byte, error)
	// Delete removes objects, any number of them; absent ones are fine.
	Delete(ctx context.Context, keys ...string) error
	// List calls f for every object whose key starts with prefix, in order of keys,
	// until f returns an error, which List returns.
	List(ctx context.Context, prefix string, f func(ObjectInfo) error) error
}

// ObjectInfo describes a stored object.
type ObjectInfo struct {
	Key  string
	Size int64 // bytes
	Put  time.Time
}

// MaxKeyBytes bounds the key of an object; a bucket's prefix comes on top.
const MaxKeyBytes = 900

// CheckKey reports why key cannot name an object: it is like a relative path, so
// that a folder can hold it, too.
func CheckKey(key string) error {
	bad := func(format string, args ...any) error {
		return airflow.Invalid("key", "%q cannot name an object: %s", key, fmt.Sprintf(format, args...))
	}
	switch {
	case key == "":
		return bad("it is empty")
	case len(key) > MaxKeyBytes:
		return bad("it has %d bytes, at most %d are allowed", len(key), MaxKeyBytes)
	case !utf8.ValidString(key):
		return bad("expected UTF-8")
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return bad("expected segments other than \"\", \".\" and \"..\" between slashes")
		}
	}
	for _, r := range key {
		if r < ' ' || r == 0x7f {
			return bad("control characters are not allowed")
		}
	}
	return nil
}
