package dagbucket_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagbucket/buckettest"
)

// TestNewest orders events of a key by their sequencers, as S3 tells to compare them,
// and not by their arrival.
func TestNewest(t *testing.T) {
	ev := func(key, seq, version string) dagbucket.Event {
		return dagbucket.Event{Bucket: "b", Key: key, Sequencer: seq, VersionID: version}
	}
	got := dagbucket.Newest([]dagbucket.Event{
		ev("a", "0055AED6DCD90281E6", "new"), ev("b", "01", "only"), ev("a", "0055AED6DCD90281E5", "old"),
		ev("c", "0061", "short"), ev("c", "006100000001", "longer"), ev("d", "", "first"), ev("d", "", "last"), ev("e", "00FF", "upper"), ev("e", "00fe", "lower"),
	})
	var out []string
	for _, e := range got {
		out = append(out, e.Key+"="+e.VersionID)
	}
	if want := []string{"a=new", "b=only", "c=longer", "d=last", "e=upper"}; !slices.Equal(out, want) {
		t.Errorf("got %v, want %v", out, want)
	}
}

func TestParseEvents(t *testing.T) {
	for body, want := range map[string]string{
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"dags/a%2Bb+c.yml","eTag":"e","versionId":"v","sequencer":"1"}}}]}`: "dags/a+b c.yml v created",
		`{"Records":[{"eventName":"ObjectRemoved:DeleteMarkerCreated","s3":{"bucket":{"name":"b"},"object":{"key":"a","versionId":"null"}}}]}`:                        "a  removed",
		`{"Records":[{"eventName":"LifecycleExpiration:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"a"}}}]}`:                                                  "a  removed",
		`{"Records":[{"eventName":"ObjectTagging:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a"}}}]}`:                                                           "",
		`{"source":"aws.s3","detail-type":"Object Deleted","detail":{"bucket":{"name":"b"},"object":{"key":"a+b%2B","version-id":"v"}}}`:                              "a+b%2B v removed",
		`{"Service":"Amazon S3","Event":"s3:TestEvent"}`: "",
	} {
		es, err := dagbucket.ParseEvents([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		got := ""
		for _, e := range es {
			what := "created"
			if e.Removed {
				what = "removed"
			}
			got += e.Key + " " + e.VersionID + " " + what
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
	for _, bad := range []string{"", "[]", "{}", `{"Records":[]}`, `{"source":"aws.ecs","detail-type":"ECS Task State Change"}`} {
		if es, err := dagbucket.ParseEvents([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, es)
		}
	}
}

func TestFolder(t *testing.T) {
	b := buckettest.New("b")
	f := dagbucket.NewFolder(b, "/team/dags/")
	if f.Root() != "s3://b/team/dags" || f.Prefix() != "team/dags/" || f.Name("x/y.yml") != "s3://b/team/dags/x/y.yml" {
		t.Errorf("%q %q %q", f.Root(), f.Prefix(), f.Name("x/y.yml"))
	}
	if dagbucket.NewFolder(b, "").Root() != "s3://b" {
		t.Errorf("root of a whole bucket: %q", dagbucket.NewFolder(b, "").Root())
	}
	created, err := dagbucket.ParseEvents([]byte(b.Put("team/dags/a.yml", "one")))
	if err != nil {
		t.Fatal(err)
	}
	if f.Reflects(created[0]) {
		t.Error("nothing was listed yet")
	}
	b.Put("team/dags/sub/", "")
	b.Put("team/dags/sub/deep/b.yml", "two")
	b.Put("team/dags/../evil.yml", "x")
	b.Put("team/dags/c", "a file")
	b.Put("team/dags/c/d.yml", "and a folder")
	b.Put("team/dags-old/z.yml", "x")
	if err := f.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := f.Names(); !slices.Equal(got, []string{"a.yml", "c/d.yml", "sub/deep/b.yml"}) {
		t.Errorf("files %v", got)
	}
	if ps := f.Problems(); len(ps) != 2 || !strings.Contains(strings.Join(ps, " "), "evil.yml") || !strings.Contains(strings.Join(ps, " "), `"c"`) {
		t.Errorf("problems %v", ps)
	}
	var listed []string
	for _, dir := range []string{"", "sub", "sub/deep", "c"} {
		es, err := f.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			name := dir + ":" + e.Name()
			if e.IsDir() {
				name += "/"
			}
			listed = append(listed, name)
		}
	}
	if want := []string{":a.yml", ":c/", ":sub/", "sub:deep/", "sub/deep:b.yml", "c:d.yml"}; !slices.Equal(listed, want) {
		t.Errorf("listed %v, want %v", listed, want)
	}
	for _, none := range []string{"x", "a.yml/b", "../dags/a.yml", "/etc/passwd"} {
		if _, err := f.Stat(none); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat %s: %v", none, err)
		}
		if _, err := f.Open(context.Background(), none); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open %s: %v", none, err)
		}
	}
	if !f.Reflects(created[0]) {
		t.Error("the listing shows what the event told")
	}
	before := f.Digest()
	newer, err := dagbucket.ParseEvents([]byte(b.Put("team/dags/a.yml", "three")))
	if err != nil {
		t.Fatal(err)
	}
	if f.Reflects(newer[0]) {
		t.Error("the listing is older than the event")
	}
	r, err := f.Open(context.Background(), "a.yml")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); string(text) != "one" || err != nil {
		t.Errorf("read %q, %v: want the listed version", text, err)
	}
	if err := f.Refresh(context.Background()); err != nil || f.Digest() == before || f.Reflects(created[0]) || !f.Reflects(newer[0]) {
		t.Errorf("after the next listing: %v", err)
	}
	b.Fail = func(string, string) error { return airflow.ErrThrottled }
	digest := f.Digest()
	if err := f.Refresh(context.Background()); !errors.Is(err, airflow.ErrThrottled) || f.Digest() != digest || len(f.Names()) == 0 {
		t.Errorf("a listing that fails changes the view: %v", err)
	}
}
