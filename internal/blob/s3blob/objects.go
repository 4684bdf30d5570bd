package s3blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

// Objects is a blob.Objects in a bucket. Every object carries a SHA-256 that S3
// checks when it is put and the SDK when it is read.
type Objects struct {
	api    API
	bucket string
	prefix string
	o      Options
}

var _ blob.Objects = (*Objects)(nil)

// NewObjects returns the objects below prefix ("xcoms/") of a bucket. Only
// Options.PageSize is used.
func NewObjects(api API, bucket, prefix string, o Options) *Objects {
	return &Objects{api: api, bucket: bucket, prefix: prefix, o: o}
}

func (s *Objects) fail(op, key string, err error) error {
	return fmt.Errorf("s3blob: %s s3://%s/%s%s: %w", op, s.bucket, s.prefix, key, translate(err))
}

// Put implements blob.Objects.
func (s *Objects) Put(ctx context.Context, key string, content []byte) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	_, err := s.api.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: aws.String(s.prefix + key), Body: bytes.NewReader(content), ContentLength: aws.Int64(int64(len(content))),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return s.fail("put", key, err)
	}
	return nil
}

// Get implements blob.Objects.
func (s *Objects) Get(ctx context.Context, key string) ([]byte, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, err
	}
	out, err := s.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return nil, s.fail("get", key, err)
	}
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	if err != nil {
		return nil, s.fail("read", key, err)
	}
	return content, nil
}

// maxDelete is the most keys of one DeleteObjects.
const maxDelete = 1000

// Delete implements blob.Objects.
func (s *Objects) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := blob.CheckKey(k); err != nil {
			return err
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), maxDelete)
		in := &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Quiet: aws.Bool(true)}}
		for _, k := range keys[:n] {
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: aws.String(s.prefix + k)})
		}
		out, err := s.api.DeleteObjects(ctx, in)
		if err != nil {
			return s.fail("delete", keys[0], err)
		}
		var errs []error
		for _, e := range out.Errors {
			err := fmt.Errorf("s3blob: delete s3://%s/%s: %s: %s", s.bucket, aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message))
			switch aws.ToString(e.Code) {
			case "AccessDenied":
				err = fmt.Errorf("%w: %w", airflow.ErrNotAllowed, err)
			case "SlowDown":
				err = fmt.Errorf("%w: %w", airflow.ErrThrottled, err)
			case "InternalError":
				err = fmt.Errorf("%w: %w", airflow.ErrUnavailable, err)
			}
			errs = append(errs, err)
		}
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
		keys = keys[n:]
	}
	return nil
}

// List implements blob.Objects.
func (s *Objects) List(ctx context.Context, prefix string, f func(blob.ObjectInfo) error) error {
	return list(ctx, s.api, s.bucket, s.prefix+prefix, s.o.PageSize, func(o types.Object) error {
		return f(blob.ObjectInfo{Key: strings.TrimPrefix(aws.ToString(o.Key), s.prefix), Size: aws.ToInt64(o.Size), Put: aws.ToTime(o.LastModified)})
	})
}
