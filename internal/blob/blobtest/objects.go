package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

// RunObjects is the suite of blob.Objects; open returns an empty one.
func RunObjects(t *testing.T, open func(t *testing.T) blob.Objects) {
	for name, run := range map[string]func(*testing.T, blob.Objects){
		"RoundTrip":  objectsRoundTrip,
		"List":       objectsList,
		"Delete":     objectsDelete,
		"BadKeys":    objectsBadKeys,
		"Concurrent": objectsConcurrent,
		"Cancelled":  objectsCancelled,
	} {
		t.Run("Objects/"+name, func(t *testing.T) { run(t, open(t)) })
	}
}

func putObject(t *testing.T, o blob.Objects, key, content string) {
	t.Helper()
	if err := o.Put(t.Context(), key, []byte(content)); err != nil {
		t.Fatalf("Put %s: %v", key, err)
	}
}

func objectsRoundTrip(t *testing.T, o blob.Objects) {
	big := string(bytes.Repeat([]byte{0, 255, 7}, 1<<18))
	for key, content := range map[string]string{
		"plain": "x", "dag_id=a/run_id=manual__2026-01-02T03:04:05+00:00/task_id=t/attempt=1.log": "log\n",
		"größe/✓ 100% & <more>?#frag": "utf-8", "empty": "", "big": big,
	} {
		putObject(t, o, key, content)
		got, err := o.Get(t.Context(), key)
		if err != nil || string(got) != content {
			t.Errorf("%s: %d bytes came back as %d, %v", key, len(content), len(got), err)
		}
	}
	putObject(t, o, "plain", "replaced")
	if got, err := o.Get(t.Context(), "plain"); err != nil || string(got) != "replaced" {
		t.Errorf("after a second Put: %q, %v", got, err)
	}
	if _, err := o.Get(t.Context(), "absent"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("absent: want ErrNotFound, got %v", err)
	}
}

func objectsList(t *testing.T, o blob.Objects) {
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("p/%02d", i)
		want = append(want, key)
		putObject(t, o, key, strings.Repeat("x", i))
	}
	putObject(t, o, "q/other", "x")
	var got []string
	err := o.List(t.Context(), "p/", func(i blob.ObjectInfo) error {
		if i.Size != int64(len(got)) || i.Put.IsZero() {
			t.Errorf("%+v: want size %d and a time", i, len(got))
		}
		got = append(got, i.Key)
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("listed %q, %v", got, err)
	}
	stop := errors.New("stop")
	n := 0
	if err := o.List(t.Context(), "", func(blob.ObjectInfo) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("List did not stop at the first error: %v after %d", err, n)
	}
	if err := o.List(t.Context(), "none/", func(i blob.ObjectInfo) error { return fmt.Errorf("listed %v", i) }); err != nil {
		t.Error(err)
	}
}

func objectsDelete(t *testing.T, o blob.Objects) {
	putObject(t, o, "a", "1")
	putObject(t, o, "b", "2")
	putObject(t, o, "c", "3")
	if err := o.Delete(t.Context(), "a", "absent", "c"); err != nil {
		t.Fatal(err)
	}
	var left []string
	if err := o.List(t.Context(), "", func(i blob.ObjectInfo) error { left = append(left, i.Key); return nil }); err != nil || !slices.Equal(left, []string{"b"}) {
		t.Errorf("left %q, %v", left, err)
	}
	if err := o.Delete(t.Context()); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
}

func objectsBadKeys(t *testing.T, o blob.Objects) {
	for _, key := range []string{"", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\x00", "\xff", strings.Repeat("x", blob.MaxKeyBytes+1)} {
		var invalid *airflow.InvalidError
		if err := o.Put(t.Context(), key, nil); !errors.As(err, &invalid) {
			t.Errorf("Put %q: want an InvalidError, got %v", key, err)
		}
		if _, err := o.Get(t.Context(), key); !errors.As(err, &invalid) {
			t.Errorf("Get %q: want an InvalidError, got %v", key, err)
		}
		if err := o.Delete(t.Context(), "fine", key); !errors.As(err, &invalid) {
			t.Errorf("Delete %q: want an InvalidError, got %v", key, err)
		}
	}
}

func objectsConcurrent(t *testing.T, o blob.Objects) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			content := strings.Repeat(string(rune('a'+w)), 1000)
			for range 5 {
				if err := o.Put(t.Context(), "shared", []byte(content)); err != nil {
					t.Error(err)
				}
				got, err := o.Get(t.Context(), "shared")
				if err != nil || len(got) != 1000 || strings.Trim(string(got), string(got[:1])) != "" {
					t.Errorf("a mixture of %d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

func objectsCancelled(t *testing.T, o blob.Objects) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Put(ctx, "x", []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: want Canceled, got %v", err)
	}
	if _, err := o.Get(t.Context(), "x"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a cancelled Put stored something: %v", err)
	}
}
