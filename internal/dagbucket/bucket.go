package dagbucket

import (
	"context"
	"io"
	"strings"
	"time"
)

// Object is the current version of a key when it was listed.
type Object struct {
	Key string
	// VersionID is "" in a bucket without versions.
	VersionID string
	// ETag is without quotes. It differs for different contents; it is no checksum.
	ETag         string
	Size         int64
	LastModified time.Time
}

// Version stands for the content of the object: two contents never share it.
func (o Object) Version() string { return o.ETag + "/" + o.VersionID }

// Bucket is what is needed of a bucket. Methods may be called concurrently. Errors
// wrap airflow.ErrNotFound (no such bucket), ErrNotAllowed, ErrThrottled,
// ErrUnavailable or the cause.
type Bucket interface {
	// Name is how people call the bucket's place, such as s3://bucket.
	Name() string
	// List returns the current objects whose key begins with prefix, by key.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Get reads exactly that version of an object; one that is not there any more is
	// dagprocessor.ErrChanging.
	Get(ctx context.Context, o Object) (io.ReadCloser, error)
}

// CleanPrefix returns a prefix that ends at a folder: "" or "a/b/".
func CleanPrefix(prefix string) string {
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return ""
	}
	return prefix + "/"
}
