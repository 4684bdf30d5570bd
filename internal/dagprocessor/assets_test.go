package dagprocessor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/store"
)

func TestAssets(t *testing.T) {
	r := newRig(t)
	r.write("p.yml", "dag p out=orders")
	r.write("c.yml", "dag c on=orders on=alias:al on=ref:rates")
	r.sync()
	a := r.asset("orders", "x-test://orders")
	if !slices.Equal(a.ScheduledDags, ids("c")) || !slices.Equal(a.Producers, []store.AssetProducer{{DagID: "p", TaskID: "out"}}) || !a.Active() || a.Group != "asset" {
		t.Errorf("asset %+v", a)
	}
	if al := r.asset("al", AliasURI); !slices.Equal(al.ScheduledDags, ids("c")) {
		t.Errorf("alias %+v", al)
	}
	// A reference finds an asset that appears later.
	r.write("q.yml", "dag q out=rates")
	r.sync()
	if a := r.asset("rates", "x-test://rates"); !slices.Equal(a.ScheduledDags, ids("c")) || len(a.Producers) != 1 {
		t.Errorf("asset by reference %+v", a)
	}
	// Nothing refers to it any more.
	r.write("c.yml", "dag c on=orders")
	r.remove("q.yml")
	r.sync()
	r.advance(time.Hour)
	r.sync()
	if a := r.asset("rates", "x-test://rates"); a.Active() || len(a.ScheduledDags) != 0 {
		t.Errorf("asset that nobody names %+v", a)
	}
}

func TestAssetConflict(t *testing.T) {
	r := newRig(t)
	r.write("m.yml", "dag m out=orders|s3://one")
	r.sync()
	r.write("a.yml", "dag a out=orders|s3://other")
	r.write("z.yml", "dag z on=sales|s3://one")
	r.sync()
	for _, k := range [][2]string{{"orders", "s3://other"}, {"sales", "s3://one"}} {
		if a := r.asset(k[0], k[1]); a.Active() || !strings.Contains(a.Inactive, "another active asset") {
			t.Errorf("asset %v: %+v", k, a)
		}
	}
	if a := r.asset("orders", "s3://one"); !a.Active() {
		t.Errorf("the first asset: %+v", a)
	}
	r.dag("a") // the DAGs load all the same
	r.noErrors()
	// The first one goes: the others take its place.
	r.write("m.yml", "dag m")
	r.sync()
	if !r.asset("orders", "s3://other").Active() || !r.asset("sales", "s3://one").Active() {
		t.Error("assets stay inactive although nothing is in their way")
	}
}
