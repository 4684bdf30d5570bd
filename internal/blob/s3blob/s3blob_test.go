package s3blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gustflow/gust/internal/awsmeter/awstest"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/blobtest"
	"github.com/gustflow/gust/internal/blob/s3blob"
)

// bucket makes a bucket for a test.
func bucket(t *testing.T, c *s3.Client, versioned bool) string {
	t.Helper()
	name := fmt.Sprintf("s3blob-%d", time.Now().UnixNano())
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	if versioned {
		_, err := c.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return name
}

func client(t *testing.T) *s3.Client {
	return s3.NewFromConfig(awstest.Config(t), func(o *s3.Options) { o.UsePathStyle = true })
}

func TestSuiteS3(t *testing.T) {
	c := client(t)
	name := bucket(t, c, true)
	n := 0
	blobtest.Run(t, blobtest.Harness{Resolution: time.Second, New: func(*testing.T, func() time.Time) blob.Store {
		n++
		return s3blob.New(c, name, fmt.Sprintf("blobs%d/", n), s3blob.Options{PageSize: 7})
	}})
	blobtest.RunObjects(t, func(*testing.T) blob.Objects {
		n++
		return s3blob.NewObjects(c, name, fmt.Sprintf("objects%d/", n), s3blob.Options{PageSize: 7})
	})
}

func TestUnversionedBucketIsNotCollected(t *testing.T) {
	c := client(t)
	s := s3blob.New(c, bucket(t, c, false), "blobs/", s3blob.Options{})
	h := blob.Hash([]byte("x"))
	if err := s.Put(t.Context(), h, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Delete(t.Context(), h, time.Now().Add(time.Hour)); done || !errors.Is(err, s3blob.ErrNotVersioned) {
		t.Errorf("want ErrNotVersioned, got %v, %v", done, err)
	}
	if done, err := s.Delete(t.Context(), h, time.Time{}); !done || err != nil {
		t.Errorf("without a time: %v, %v", done, err)
	}
}

func TestRenewAfter(t *testing.T) {
	c := client(t)
	calls := &counting{API: c, n: map[string]int{}}
	now := time.Now()
	s := s3blob.New(calls, bucket(t, c, true), "blobs/", s3blob.Options{RenewAfter: time.Hour, Now: func() time.Time { return now }})
	h := blob.Hash([]byte("x"))
	for range 3 {
		if err := s.Put(t.Context(), h, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	if calls.n["PutObject"] != 1 || calls.n["CopyObject"] != 0 {
		t.Errorf("calls: %v", calls.n)
	}
	// It may have been put again up to an hour after its time.
	if done, err := s.Delete(t.Context(), h, now.Add(59*time.Minute)); err != nil || done {
		t.Errorf("deleted: %v, %v", done, err)
	}
	now = now.Add(2 * time.Hour)
	if err := s.Put(t.Context(), h, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if calls.n["PutObject"] != 1 || calls.n["CopyObject"] != 1 {
		t.Errorf("calls after two hours: %v", calls.n)
	}
	if done, err := s.Delete(t.Context(), h, now); err != nil || !done {
		t.Errorf("Delete of what is old, with an earlier version behind it: %v, %v", done, err)
	}
	if has, err := s.Has(t.Context(), h); err != nil || has {
		t.Errorf("an earlier version came to light: %v, %v", has, err)
	}
}

func TestDamageIsSeen(t *testing.T) {
	c := client(t)
	name := bucket(t, c, false)
	s := s3blob.New(c, name, "blobs/", s3blob.Options{})
	h := blob.Hash([]byte("right"))
	if err := s.Put(t.Context(), h, strings.NewReader("right")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: aws.String("blobs/" + h[:2] + "/" + h), Body: strings.NewReader("wrong")}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(blob.Verify(h, r)); !errors.Is(err, blob.ErrHashMismatch) {
		t.Errorf("want ErrHashMismatch, got %v", err)
	}
}

func TestLargeBlobGoesThroughAFile(t *testing.T) {
	c := client(t)
	s := s3blob.New(c, bucket(t, c, false), "blobs/", s3blob.Options{})
	content := strings.Repeat("0123456789abcdef", (9<<20)/16)
	h := blob.Hash([]byte(content))
	if err := s.Put(t.Context(), h, struct{ io.Reader }{strings.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(blob.Verify(h, r)); err != nil || len(got) != len(content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// counting counts the calls that cost most.
type counting struct {
	s3blob.API
	n map[string]int
}

func (c *counting) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	c.n["PutObject"]++
	return c.API.PutObject(ctx, in, o...)
}

func (c *counting) CopyObject(ctx context.Context, in *s3.CopyObjectInput, o ...func(*s3.Options)) (*s3.CopyObjectOutput, error) {
	c.n["CopyObject"]++
	return c.API.CopyObject(ctx, in, o...)
}
