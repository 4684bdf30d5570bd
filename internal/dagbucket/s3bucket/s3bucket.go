// Package s3bucket is dagbucket.Bucket on S3, the state of the DAG processor in a
// bucket, and what `gust dags sync` writes.
package s3bucket

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagprocessor"
)

// API is what is used of the SDK's client.
type API interface {
	ListObjectVersions(context.Context, *s3.ListObjectVersionsInput, ...func(*s3.Options)) (*s3.ListObjectVersionsOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	DeleteObjects(context.Context, *s3.DeleteObjectsInput, ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error)
}

// Bucket is a dagbucket.Bucket.
type Bucket struct {
	api  API
	name string
}

var _ dagbucket.Bucket = (*Bucket)(nil)

// New returns the bucket of that name.
func New(api API, name string) *Bucket { return &Bucket{api, name} }

// Name implements dagbucket.Bucket.
func (b *Bucket) Name() string { return "s3://" + b.name }

// List implements dagbucket.Bucket. It lists versions: a plain listing does not tell
// them, and only a version can be read again after it was replaced. What was
// replaced and not yet expired costs a line of the listing each.
func (b *Bucket) List(ctx context.Context, prefix string) ([]dagbucket.Object, error) {
	var out []dagbucket.Object
	in := &s3.ListObjectVersionsInput{Bucket: &b.name, Prefix: &prefix}
	for {
		page, err := b.api.ListObjectVersions(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list s3://%s/%s: %w", b.name, prefix, translate(err))
		}
		for _, v := range page.Versions {
			if aws.ToBool(v.IsLatest) {
				out = append(out, dagbucket.Object{
					Key: aws.ToString(v.Key), VersionID: dagbucket.Version(aws.ToString(v.VersionId)), ETag: strings.Trim(aws.ToString(v.ETag), `"`),
					Size: aws.ToInt64(v.Size), LastModified: aws.ToTime(v.LastModified),
				})
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return out, nil
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
}

// ListCurrent lists like List, without versions: for whoever may not list those.
func (b *Bucket) ListCurrent(ctx context.Context, prefix string) ([]dagbucket.Object, error) {
	var out []dagbucket.Object
	pages := s3.NewListObjectsV2Paginator(b.api, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list s3://%s/%s: %w", b.name, prefix, translate(err))
		}
		for _, o := range page.Contents {
			out = append(out, dagbucket.Object{Key: aws.ToString(o.Key), ETag: strings.Trim(aws.ToString(o.ETag), `"`), Size: aws.ToInt64(o.Size), LastModified: aws.ToTime(o.LastModified)})
		}
	}
	return out, nil
}

// Get implements dagbucket.Bucket.
func (b *Bucket) Get(ctx context.Context, o dagbucket.Object) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &o.Key}
	if o.VersionID != "" {
		in.VersionId = &o.VersionID
	}
	if o.ETag != "" {
		in.IfMatch = aws.String(`"` + o.ETag + `"`)
	}
	out, err := b.api.GetObject(ctx, in)
	if err != nil {
		if n := status(err); n == http.StatusPreconditionFailed || n == http.StatusNotFound && code(err) != "NoSuchBucket" {
			return nil, fmt.Errorf("s3://%s/%s: %w", b.name, o.Key, dagprocessor.ErrChanging)
		}
		return nil, fmt.Errorf("read s3://%s/%s: %w", b.name, o.Key, translate(err))
	}
	return out.Body, nil
}

// shaKey is the name of the metadata that keeps the SHA-256 of a file: an ETag is no
// checksum where objects are encrypted with a key.
const shaKey = "gust-sha256"

// SHA256 implements dagsync.Target.
func (b *Bucket) SHA256(ctx context.Context, key string) (string, error) {
	out, err := b.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if status(err) == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at s3://%s/%s: %w", b.name, key, translate(err))
	}
	return out.Metadata[shaKey], nil
}

// PutFile implements dagsync.Target.
func (b *Bucket) PutFile(ctx context.Context, key string, content []byte, sha256 string) error {
	in := &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: bytes.NewReader(content), ContentLength: aws.Int64(int64(len(content))), Metadata: map[string]string{shaKey: sha256}}
	if _, err := b.api.PutObject(ctx, in); err != nil {
		return fmt.Errorf("write s3://%s/%s: %w", b.name, key, translate(err))
	}
	return nil
}

// Delete removes files; those of a versioned bucket can be restored.
func (b *Bucket) Delete(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), 1000)
		in := &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Quiet: aws.Bool(true)}}
		for _, k := range keys[:n] {
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &k})
		}
		out, err := b.api.DeleteObjects(ctx, in)
		if err != nil {
			return fmt.Errorf("delete from s3://%s: %w", b.name, translate(err))
		}
		var errs []error
		for _, e := range out.Errors {
			errs = append(errs, fmt.Errorf("delete s3://%s/%s: %s: %s", b.name, aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message)))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// State is a dagprocessor.Cache in one object, compressed. Writes are conditional on
// what was read or written last. It is safe for concurrent use.
type State struct {
	api         API
	bucket, key string

	mu   sync.Mutex
	etag string // as seen last; "" = there was nothing
}

var _ dagprocessor.Cache = (*State)(nil)

// NewState returns the state kept under a key.
func NewState(api API, bucket, key string) *State { return &State{api: api, bucket: bucket, key: key} }

// maxState bounds what is unpacked: about a million files.
const maxState = 1 << 30

// Read implements dagprocessor.Cache.
func (s *State) Read(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &s.key})
	if status(err) == http.StatusNotFound && code(err) != "NoSuchBucket" {
		s.etag = ""
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read s3://%s/%s: %w", s.bucket, s.key, translate(err))
	}
	defer out.Body.Close()
	s.etag = aws.ToString(out.ETag)
	z, err := io.ReadAll(out.Body)
	if err != nil {
		return nil, fmt.Errorf("read s3://%s/%s: %w: %w", s.bucket, s.key, airflow.ErrUnavailable, err)
	}
	r, err := gzip.NewReader(bytes.NewReader(z))
	if err != nil {
		return nil, nil //nolint:nilerr // damaged: a lost cache only costs time
	}
	data, err := io.ReadAll(io.LimitReader(r, maxState))
	if err != nil {
		return nil, nil //nolint:nilerr // the same
	}
	return data, nil
}

// Write implements dagprocessor.Cache.
func (s *State) Write(ctx context.Context, data []byte) error {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: &s.key, Body: bytes.NewReader(z.Bytes()), ContentLength: aws.Int64(int64(z.Len()))}
	if s.etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &s.etag
	}
	out, err := s.api.PutObject(ctx, in)
	switch n := status(err); {
	case n == http.StatusPreconditionFailed, n == http.StatusConflict, n == http.StatusNotFound && code(err) == "NoSuchKey":
		return fmt.Errorf("write s3://%s/%s: %w", s.bucket, s.key, airflow.ErrConflict)
	case err != nil:
		return fmt.Errorf("write s3://%s/%s: %w", s.bucket, s.key, translate(err))
	}
	s.etag = aws.ToString(out.ETag)
	return nil
}

func status(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) {
		return re.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// translate maps SDK errors to the sentinels of package airflow, keeping the chain.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	wrap := func(sentinel error) error { return fmt.Errorf("%w: %w", sentinel, err) }
	switch n, c := status(err), code(err); {
	case c == "NoSuchBucket", n == http.StatusNotFound:
		return wrap(airflow.ErrNotFound)
	case c == "SlowDown", n == http.StatusTooManyRequests, n == http.StatusServiceUnavailable:
		return wrap(airflow.ErrThrottled)
	case n == http.StatusForbidden:
		return wrap(airflow.ErrNotAllowed)
	case n >= 500, n == 0:
		return wrap(airflow.ErrUnavailable)
	}
	return err
}
