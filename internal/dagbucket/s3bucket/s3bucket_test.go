package s3bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsmeter/awstest"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagbucket/s3bucket"
	"github.com/gustflow/gust/internal/dagprocessor"
)

func bucket(t *testing.T, versioned bool) (*s3.Client, string) {
	t.Helper()
	cfg := awstest.Config(t)
	api := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	name := fmt.Sprintf("h-dags-%x", []byte(t.Name())[:8])
	ctx := context.Background()
	if _, err := api.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	if versioned {
		if _, err := api.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: &name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		vs, err := api.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &name})
		if err != nil {
			t.Error(err)
			return
		}
		del := func(k, v *string) {
			if _, err := api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: k, VersionId: v}); err != nil {
				t.Error(err)
			}
		}
		for _, v := range vs.Versions {
			del(v.Key, v.VersionId)
		}
		for _, v := range vs.DeleteMarkers {
			del(v.Key, v.VersionId)
		}
		if _, err := api.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name}); err != nil {
			t.Error(err)
		}
	})
	return api, name
}

func read(t *testing.T, b *s3bucket.Bucket, o dagbucket.Object) (string, error) {
	t.Helper()
	r, err := b.Get(context.Background(), o)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

func TestBucket(t *testing.T) {
	for _, versioned := range []bool{true, false} {
		t.Run(fmt.Sprintf("%v-versioned", versioned), func(t *testing.T) {
			api, name := bucket(t, versioned)
			b := s3bucket.New(api, name)
			ctx := context.Background()
			put := func(key, content string) {
				t.Helper()
				if err := b.PutFile(ctx, key, []byte(content), "sum-"+content); err != nil {
					t.Fatal(err)
				}
			}
			put("dags/a.yml", "one")
			put("dags/sub dir/ü+b.yml", "b")
			put("dags/gone.yml", "x")
			put("other.yml", "o")
			if err := b.Delete(ctx, []string{"dags/gone.yml"}); err != nil {
				t.Fatal(err)
			}
			first, err := b.List(ctx, "dags/")
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, o := range first {
				keys = append(keys, o.Key)
				if (o.VersionID != "") != versioned || o.ETag == "" {
					t.Errorf("%+v", o)
				}
			}
			if !slices.Equal(keys, []string{"dags/a.yml", "dags/sub dir/ü+b.yml"}) {
				t.Fatalf("listed %q", keys)
			}
			plain, err := b.ListCurrent(ctx, "dags/")
			if err != nil || len(plain) != 2 || plain[0].ETag != first[0].ETag {
				t.Errorf("plain listing %+v, %v", plain, err)
			}
			put("dags/a.yml", "two")
			if sum, err := b.SHA256(ctx, "dags/a.yml"); sum != "sum-two" || err != nil {
				t.Errorf("kept %q, %v", sum, err)
			}
			if sum, err := b.SHA256(ctx, "dags/none.yml"); sum != "" || err != nil {
				t.Errorf("kept with nothing: %q, %v", sum, err)
			}
			got, err := read(t, b, first[0])
			if versioned && got != "one" || !versioned && !errors.Is(err, dagprocessor.ErrChanging) {
				t.Errorf("the listed version: %q, %v", got, err)
			}
			if got, err := read(t, b, first[1]); got != "b" {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := read(t, b, dagbucket.Object{Key: "dags/none.yml"}); !errors.Is(err, dagprocessor.ErrChanging) {
				t.Errorf("a missing object: %v", err)
			}
			second, err := b.List(ctx, "dags/")
			if err != nil || second[0].Version() == first[0].Version() {
				t.Errorf("after the change: %+v, %v", second, err)
			}
		})
	}
	t.Run("pages", func(t *testing.T) {
		api, name := bucket(t, true)
		b := s3bucket.New(pages{api}, name)
		for i := range 7 {
			for range 2 {
				if err := b.PutFile(context.Background(), fmt.Sprintf("k%d", i), []byte("x"), ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		out, err := b.List(context.Background(), "")
		if err != nil || len(out) != 7 {
			t.Errorf("%d objects, %v", len(out), err)
		}
	})
	t.Run("no bucket", func(t *testing.T) {
		api, _ := bucket(t, false)
		b := s3bucket.New(api, "h-there-is-none")
		if _, err := b.List(context.Background(), ""); !errors.Is(err, airflow.ErrNotFound) {
			t.Errorf("list: %v", err)
		}
		if _, err := read(t, b, dagbucket.Object{Key: "a"}); err == nil || errors.Is(err, dagprocessor.ErrChanging) {
			t.Errorf("read: %v", err)
		}
	})
}

type pages struct{ *s3.Client }

func (p pages) ListObjectVersions(ctx context.Context, in *s3.ListObjectVersionsInput, o ...func(*s3.Options)) (*s3.ListObjectVersionsOutput, error) {
	in.MaxKeys = aws.Int32(3)
	return p.Client.ListObjectVersions(ctx, in, o...)
}

// TestState: of two processes that start from one state only one can replace it.
func TestState(t *testing.T) {
	api, name := bucket(t, true)
	ctx := context.Background()
	a, b := s3bucket.NewState(api, name, "dagprocessor/x.json.gz"), s3bucket.NewState(api, name, "dagprocessor/x.json.gz")
	for _, s := range []*s3bucket.State{a, b} {
		if data, err := s.Read(ctx); data != nil || err != nil {
			t.Fatalf("empty: %q, %v", data, err)
		}
	}
	if err := a.Write(ctx, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := b.Write(ctx, []byte("second")); !errors.Is(err, airflow.ErrConflict) {
		t.Fatalf("the second creation: %v", err)
	}
	if data, err := b.Read(ctx); string(data) != "first" || err != nil {
		t.Fatalf("%q, %v", data, err)
	}
	if err := b.Write(ctx, []byte("third")); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(ctx, []byte("fourth")); !errors.Is(err, airflow.ErrConflict) {
		t.Fatalf("the second replacement: %v", err)
	}
	if data, err := a.Read(ctx); string(data) != "third" || err != nil {
		t.Fatalf("%q, %v", data, err)
	}
	if err := a.Write(ctx, []byte("fifth")); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(ctx, []byte("sixth")); err != nil {
		t.Errorf("its own next write: %v", err)
	}
}
