// Package s3blob keeps blobs and keyed objects in an S3 bucket, each below a
// prefix.
//
// A blob is one object, <prefix><first two digits>/<hash>. S3 itself checks the
// content: the request carries the hash as the object's SHA-256. The time of the
// last Put is the object's LastModified, of the service's clock and in whole
// seconds; what is decided by it allows for that.
//
// Delete of a blob that somebody may put again at the same moment needs a bucket
// with versioning: it removes the version that it looked at, and a newer one
// stays. On a bucket without, Delete with a time is refused. Versions that were
// replaced cost storage until a lifecycle rule removes them (ADR 12).
package s3blob

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

// API is what is used of *s3.Client.
type API interface {
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	CopyObject(context.Context, *s3.CopyObjectInput, ...func(*s3.Options)) (*s3.CopyObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	DeleteObjects(context.Context, *s3.DeleteObjectsInput, ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

const (
	// spoolBytes is how much of a blob is held in memory; longer ones go through a
	// temporary file.
	spoolBytes = 8 << 20
	// maxPutBytes is the most that one request can put.
	maxPutBytes = 5 << 30
	// resolution of LastModified.
	resolution = time.Second
)

// Options configure a store. The zero value is a good default.
type Options struct {
	// RenewAfter is the age from which a Put of a stored blob renews its time; a
	// renewal costs as much as a put. Delete spares blobs that much longer.
	// Default 0: always.
	RenewAfter time.Duration
	// Now is the clock that RenewAfter is measured with; default time.Now.
	Now func() time.Time
	// PageSize is the most keys of one list request; default the service's 1,000.
	PageSize int32
}

// Store is a blob.Store in a bucket.
type Store struct {
	api    API
	bucket string
	prefix string
	o      Options
}

var _ blob.Store = (*Store)(nil)

// New returns the blobs below prefix ("blobs/") of a bucket.
func New(api API, bucket, prefix string, o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{api: api, bucket: bucket, prefix: prefix, o: o}
}

func (s *Store) key(hash string) *string { return aws.String(s.prefix + hash[:2] + "/" + hash) }

func (s *Store) fail(op, hash string, err error) error {
	return fmt.Errorf("s3blob: %s s3://%s/%s: %w", op, s.bucket, *s.key(hash), translate(err))
}

// Put stores a blob; see blob.Store.
func (s *Store) Put(ctx context.Context, hash string, r io.Reader) error {
	if err := blob.CheckHash(hash); err != nil {
		return err
	}
	head, err := s.head(ctx, hash)
	switch {
	case err == nil:
		if s.o.RenewAfter > 0 && s.o.Now().Sub(aws.ToTime(head.LastModified)) < s.o.RenewAfter {
			return nil
		}
		err := s.renew(ctx, hash)
		if !errors.Is(err, airflow.ErrNotFound) {
			return err
		} // it was deleted at this moment
	case !errors.Is(err, airflow.ErrNotFound):
		return err
	}
	body, size, done, err := spool(ctx, hash, r)
	if err != nil {
		return fmt.Errorf("s3blob: put %s: %w", hash, err)
	}
	defer done()
	sum, _ := hex.DecodeString(hash)
	for attempt := 0; ; attempt++ {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("s3blob: put %s: %w", hash, err)
		}
		_, err = s.api.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &s.bucket, Key: s.key(hash), Body: body, ContentLength: &size, IfNoneMatch: aws.String("*"),
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
		})
		switch code := status(err); {
		case err == nil, code == http.StatusPreconditionFailed: // somebody else has just put it
			return nil
		case code == http.StatusConflict && attempt < 3: // somebody else is putting or deleting it
			continue
		}
		return s.fail("put", hash, err)
	}
}

// renew copies a blob onto itself, which sets its time.
func (s *Store) renew(ctx context.Context, hash string) error {
	_, err := s.api.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &s.bucket, Key: s.key(hash), CopySource: aws.String(copySource(s.bucket, *s.key(hash))), MetadataDirective: types.MetadataDirectiveReplace,
	})
	if err != nil {
		return s.fail("renew", hash, err)
	}
	return nil
}

// copySource is a bucket and key as the header wants them; neither holds
// characters other than those of names, prefixes and hashes.
func copySource(bucket, key string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/"
	var b strings.Builder
	for _, c := range []byte(bucket + "/" + key) {
		if strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// spool reads all of r and checks it, so that a request can be repeated and
// nothing is sent of content that is not the hash's.
func spool(ctx context.Context, hash string, r io.Reader) (io.ReadSeeker, int64, func(), error) {
	v := blob.Verify(hash, contextReader{ctx, r})
	var buf bytes.Buffer
	n, err := io.CopyN(&buf, v, spoolBytes)
	if errors.Is(err, io.EOF) {
		return bytes.NewReader(buf.Bytes()), n, func() {}, nil
	}
	if err != nil {
		return nil, 0, nil, err
	}
	f, err := os.CreateTemp("", "s3blob-*")
	if err != nil {
		return nil, 0, nil, err
	}
	done := func() { f.Close(); os.Remove(f.Name()) }
	n, err = io.Copy(f, io.MultiReader(&buf, v))
	if err == nil && n > maxPutBytes {
		err = fmt.Errorf("%w: %d bytes, at most %d are allowed", airflow.ErrTooLarge, n, int64(maxPutBytes))
	}
	if err != nil {
		done()
		return nil, 0, nil, err
	}
	return f, n, done, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Get opens a blob; see blob.Store. The SDK checks the SHA-256 that S3 keeps.
func (s *Store) Get(ctx context.Context, hash string) (io.ReadCloser, error) {
	if err := blob.CheckHash(hash); err != nil {
		return nil, err
	}
	out, err := s.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: s.key(hash), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		err = s.fail("get", hash, err)
		if errors.Is(err, airflow.ErrNotFound) {
			return nil, blob.NotFound(hash)
		}
		return nil, err
	}
	return out.Body, nil
}

func (s *Store) head(ctx context.Context, hash string) (*s3.HeadObjectOutput, error) {
	out, err := s.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.key(hash)})
	if err != nil {
		return nil, s.fail("head", hash, err)
	}
	return out, nil
}

// Has reports whether a blob is stored.
func (s *Store) Has(ctx context.Context, hash string) (bool, error) {
	if err := blob.CheckHash(hash); err != nil {
		return false, err
	}
	_, err := s.head(ctx, hash)
	if errors.Is(err, airflow.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ErrNotVersioned says that a blob cannot be collected safely.
var ErrNotVersioned = errors.New("the bucket keeps no versions, so that a blob that is put again while it is deleted would be lost: turn versioning on")

// Delete removes a blob; see blob.Store. With a time the bucket must be versioned,
// else ErrNotVersioned. Blobs may stay longer than the contract says, by
// Options.RenewAfter and a second.
func (s *Store) Delete(ctx context.Context, hash string, before time.Time) (bool, error) {
	if err := blob.CheckHash(hash); err != nil {
		return false, err
	}
	head, err := s.head(ctx, hash)
	if errors.Is(err, airflow.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	in := &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(hash)}
	if v := aws.ToString(head.VersionId); v != "" && v != "null" {
		in.VersionId = &v
	}
	if !before.IsZero() {
		if latest := aws.ToTime(head.LastModified).Add(resolution + s.o.RenewAfter); !latest.Before(before) {
			return false, nil
		}
		if in.VersionId == nil {
			return false, s.fail("delete", hash, ErrNotVersioned)
		}
	} else {
		in.VersionId = nil // a marker hides every version
	}
	if _, err := s.api.DeleteObject(ctx, in); err != nil {
		return false, s.fail("delete", hash, err)
	}
	if in.VersionId == nil {
		return true, nil
	}
	// What was put before that version, if its lifecycle has not ended yet, would
	// come to light again; its removal is a delete with a time of its own. A newer
	// version is one that was put again.
	rest, err := s.head(ctx, hash)
	switch {
	case errors.Is(err, airflow.ErrNotFound):
		return true, nil
	case err != nil:
		return true, err
	case aws.ToTime(rest.LastModified).After(aws.ToTime(head.LastModified)):
		return false, nil
	}
	return s.Delete(ctx, hash, before)
}

// List calls f for every blob; see blob.Store.
func (s *Store) List(ctx context.Context, f func(blob.Info) error) error {
	return list(ctx, s.api, s.bucket, s.prefix, s.o.PageSize, func(o types.Object) error {
		_, hash, ok := strings.Cut(strings.TrimPrefix(aws.ToString(o.Key), s.prefix), "/")
		if !ok || blob.CheckHash(hash) != nil || aws.ToString(o.Key) != *s.key(hash) {
			return nil // not ours
		}
		return f(blob.Info{Hash: hash, Size: aws.ToInt64(o.Size), Put: aws.ToTime(o.LastModified)})
	})
}

func list(ctx context.Context, api API, bucket, prefix string, page int32, f func(types.Object) error) error {
	in := &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix}
	if page > 0 {
		in.MaxKeys = &page
	}
	for {
		out, err := api.ListObjectsV2(ctx, in)
		if err != nil {
			return fmt.Errorf("s3blob: list s3://%s/%s: %w", bucket, prefix, translate(err))
		}
		for _, o := range out.Contents {
			if err := f(o); err != nil {
				return err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

// status is the HTTP status of an error's answer, or 0.
func status(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

// translate maps SDK errors to the sentinels of the port, keeping the chain.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNotVersioned) {
		return err
	}
	wrap := func(sentinel error) error { return fmt.Errorf("%w: %w", sentinel, err) }
	code := ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	switch n := status(err); {
	case code == "NoSuchBucket":
		return err // a wrong setting, not an absent object
	case code == "NoSuchKey", code == "NotFound", n == http.StatusNotFound:
		return wrap(airflow.ErrNotFound)
	case code == "SlowDown", n == http.StatusTooManyRequests, n == http.StatusServiceUnavailable:
		return wrap(airflow.ErrThrottled)
	case n == http.StatusForbidden:
		return wrap(airflow.ErrNotAllowed)
	case n >= 500, n == 0:
		return wrap(airflow.ErrUnavailable)
	}
	return err
}
