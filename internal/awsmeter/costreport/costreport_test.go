package costreport_test

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/costreport"
	"github.com/gustflow/gust/internal/awsmeter/prices"
	"github.com/gustflow/gust/internal/awsmeter/runfacts"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
	"github.com/gustflow/gust/internal/worker"
)

func usage(run, task string, w float64) awsmeter.Usage {
	return awsmeter.Usage{DagID: "d", RunID: run, TaskID: task, WriteUnits: w, Invocations: 0.5, Millis: 10, Calls: w}
}

func TestCollector(t *testing.T) {
	line := awsmeter.Line{Function: "scheduler", MemoryMB: 1024, Arch: "arm64", Usage: []awsmeter.Usage{usage("r", "a", 2), usage("other", "a", 100), usage("r", "", 3)}}
	plain := "START RequestId: x\n" + string(line.Encode()) + "END\n" + string(line.Encode())
	cloudwatch := `{"events":[{"logStreamName":"s","timestamp":1,"message":` + strconv.Quote(string(line.Encode())) + `},{"message":"END"},{"message":` + strconv.Quote(string(line.Encode())) + `}],"searchedLogStreams":[]}`
	for name, in := range map[string]string{"lines": plain, "cloudwatch": cloudwatch, "two pages": strings.Replace(cloudwatch, `},{"message":"END"},`, `}]}`+"\n"+`{"events":[`, 1)} {
		c := costreport.Collector{DagID: "d", RunID: "r"}
		n, err := c.Read(strings.NewReader(in), prices.Default())
		if err != nil || n != 2 || c.Lines() != 2 {
			t.Errorf("%s: %d lines, %d of the run, %v", name, n, c.Lines(), err)
		}
		r := c.Report("metered", prices.Default())
		if len(r.Tasks) != 2 || r.Tasks[0].TaskID != "" || r.Tasks[1].TaskID != "a" || r.Tasks[1].Instances != 1 || r.Instances != 1 || r.Invocations != 2 {
			t.Errorf("%s: %+v", name, r)
		}
		sum := 0.0
		for _, i := range r.Items {
			sum += i.USD
			if i.Item == prices.DynamoDBWriteUnits && i.Quantity != 10 {
				t.Errorf("%s: %v write units", name, i.Quantity)
			}
		}
		logs := 4.0 / 3 * float64(len(line.Encode())) / (1 << 30) * 0.5
		want := 10*0.625e-6 + 2*0.2e-6 + 0.04*0.0000133334 + logs
		if math.Abs(sum-r.USD) > 1e-15 || math.Abs(r.USD-want) > 1e-12 || math.Abs(r.Tasks[0].USD+r.Tasks[1].USD-r.USD) > 1e-15 {
			t.Errorf("%s: items %v, tasks %v + %v, all %v, want %v", name, sum, r.Tasks[0].USD, r.Tasks[1].USD, r.USD, want)
		}
	}
	c := costreport.Collector{}
	if _, err := c.Read(strings.NewReader("{\"events\": 7}"), prices.Default()); err == nil {
		t.Error("nonsense was read")
	}
}

// TestEstimateAgainstTheMeter: the estimate of a run's write units is that of the
// meter, from above and by no more than a tenth.
func TestEstimateAgainstTheMeter(t *testing.T) {
	for name, c := range map[string]struct {
		dag    enginetest.DAG
		result string
	}{
		"chain": {enginetest.Chain("chain", 10), "hello from a task"},
		"xcom":  {enginetest.Chain("chain", 5), strings.Repeat("x", 3000)},
	} {
		t.Run(name, func(t *testing.T) {
			m := meterkv.New(memkv.New(memkv.Options{}))
			h := enginetest.New(m, engine.Config{}, nil)
			ctx := t.Context()
			if _, err := h.Register(ctx, c.dag); err != nil {
				t.Fatal(err)
			}
			m.Reset()
			k, err := h.Trigger(ctx, "chain", "r")
			if err != nil {
				t.Fatal(err)
			}
			ran, err := h.RunAll(ctx, func(worker.Dispatch, *worker.TaskContext) enginetest.Outcome { return enginetest.Success(c.result) })
			if err != nil {
				t.Fatal(err)
			}
			measured := m.Total()
			got := 0.0
			f, err := runfacts.Of(ctx, h.Store, h.Engine, k)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range costreport.Estimate(f, costreport.DefaultModel(), prices.Default()).Items {
				if i.Item == prices.DynamoDBWriteUnits {
					got = i.Quantity
				}
			}
			t.Logf("%d tasks: metered %.0f write units, estimated %.0f", len(ran), measured.TotalWriteUnits(), got)
			if got < measured.TotalWriteUnits() || got > measured.TotalWriteUnits()*1.1+1 {
				t.Errorf("estimated %v write units, metered %v\n%s", got, measured.TotalWriteUnits(), m)
			}
		})
	}
}
