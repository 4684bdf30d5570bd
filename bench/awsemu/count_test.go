package awsemu_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsemu/emusite"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/awsmeter/prices"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// bill is what some work took, everything included: creation and end of runs,
// indexes, rendered fields, XComs, logs, the mappings' own calls.
type bill struct {
	writes, reads, sqs, invocations, gbs, logBytes, puts float64
}

func (b bill) minus(c bill) bill {
	return bill{b.writes - c.writes, b.reads - c.reads, b.sqs - c.sqs, b.invocations - c.invocations, b.gbs - c.gbs, b.logBytes - c.logBytes, b.puts - c.puts}
}

func billOf(s *emusite.Site) bill {
	var b bill
	u := s.Cloud.Table.Units
	b.writes, b.reads = u.Write+u.IndexWrite, u.Read
	for _, q := range s.Cloud.Queues() {
		b.sqs += float64(q.Counts.Sends + q.Counts.Receives + q.Counts.Deletes)
	}
	for _, f := range s.Cloud.Functions() {
		b.invocations += float64(f.Counts.Invocations)
		b.gbs += f.GBSeconds()
	}
	// Lambda's own START, END and REPORT lines are off (infra/stacks/gofunction.go).
	b.logBytes = float64(s.Logged)
	for op, n := range s.Cloud.Trace.Operations() {
		if strings.HasSuffix(op, "S3.PutObject") {
			b.puts += float64(n)
		}
	}
	return b
}

// perMillion prints what a million tasks cost and returns the sum in dollars.
func (b bill) perMillion(t *testing.T, what string, tasks int) float64 {
	t.Helper()
	p := prices.Default()
	out, sum := "", 0.0
	line := func(name string, item prices.Item, n float64) {
		usd := p.Cost(item, n/float64(tasks)*1e6)
		sum += usd
		out += fmt.Sprintf("  %-24s %9.3f a task   $%6.3f\n", name, n/float64(tasks), usd)
	}
	line("write units", prices.DynamoDBWriteUnits, b.writes)
	line("read units", prices.DynamoDBReadUnits, b.reads)
	line("SQS requests", prices.SQSRequests, b.sqs)
	line("Lambda requests", prices.LambdaRequests, b.invocations)
	line("Lambda GB-s (arm64)", prices.LambdaGBSecondsARM, b.gbs)
	line("log GB", prices.LogsIngest, b.logBytes/(1<<30))
	line("S3 puts", prices.S3Puts, b.puts)
	report(t, "%s: $%.2f per million tasks (%s %s, no free tier)\n%s", what, sum, p.Region, p.AsOf, out)
	return sum
}

// echo is what `bash echo` leaves: rendered fields, an XCom, and a log that as a file
// has 2,049 bytes, with the worker's own line; on a shared stream tags come on top.
func echo(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	for i := range 10 {
		t.Log.Info(fmt.Sprintf("line %d of a task's output, of about one hundred characters, as programs print them: %s", i, strings.Repeat("x", 24)))
	}
	v, err := json.Marshal("hello from a task")
	return &taskrunner.Result{Value: v}, err
}

// TestCountedCost counts what AWS would bill for scheduled runs in which every task
// is an echo, and holds the targets of the project.
func TestCountedCost(t *testing.T) {
	cpu := calibrated(t)
	for _, c := range []struct {
		name               string
		dag                func(id string) enginetest.DAG
		tasks, dags        int
		writes, sqs, price float64
		pool               bool
	}{
		{name: "chain of ten", dag: func(id string) enginetest.DAG { return enginetest.Chain(id, 10) }, tasks: 10, dags: 20, writes: 4.5, sqs: 6.1, price: 8},
		{name: "fan of 100", dag: func(id string) enginetest.DAG { return fan(id, 100) }, tasks: 100, dags: 4, writes: 4.5, sqs: 1.5, price: 6.2},
		{name: "chain of ten, finite pool", dag: func(id string) enginetest.DAG { return enginetest.Chain(id, 10) }, tasks: 10, dags: 20, writes: 6.5, pool: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := site(t, emusite.Options{
					Work: echo, TickOff: true, Observe: true, Burst: true, Handlers: 8, Cloud: awsemu.Options{Warm: -1, CPU: cpu},
				})
				defer s.Close()
				if c.pool {
					if err := s.Tools.PutPool(t.Context(), airflow.Pool{Name: airflow.DefaultPool, Slots: 1000}); err != nil {
						t.Fatal(err)
					}
				}
				for i := range c.dags {
					d := c.dag(fmt.Sprint("dag", i))
					d.Cron = "0 * * * *"
					if err := s.Register(t.Context(), d); err != nil {
						t.Fatal(err)
					}
				}
				tick := func() {
					s.Cloud.InvokeAsync(awsenv.Scheduler, json.RawMessage(awsenv.TickInput))
					time.Sleep(5 * time.Second)
					s.Settle()
				}
				// The first hour fills caches and sets up what there is once: it is left out.
				tick()
				time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(59 * time.Minute)))
				// As in every minute. What ticks with nothing to do read is the price of an
				// idle deployment: without this one the next would make up for all of them.
				tick()
				time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour + time.Second)))
				before := billOf(s)
				tick()
				time.Sleep(30 * time.Second) // until the last run has ended, or what follows fails
				s.Settle()
				b := billOf(s).minus(before) // what the test reads below is nobody's bill
				for i := range c.dags {
					infos, _, err := s.Store.ListRuns(t.Context(), airflow.DagID(fmt.Sprint("dag", i)), storeAll)
					if err != nil {
						t.Fatal(err)
					}
					for _, r := range infos {
						if !r.State.Finished() {
							t.Fatalf("run %s of DAG %s is %s", r.RunID, r.DagID, r.State)
						}
					}
				}
				ran := 0
				for _, at := range s.Ends {
					if at.After(time.Now().Truncate(time.Hour)) {
						ran++
					}
				}
				if ran != c.tasks*c.dags {
					t.Fatalf("%d tasks ran in the hour, want %d\n%s", ran, c.tasks*c.dags, s)
				}
				usd := b.perMillion(t, c.name, ran)
				atMost(t, c.name+", write units a task", b.writes/float64(ran), c.writes)
				if c.sqs > 0 {
					atMost(t, c.name+", SQS requests a task", b.sqs/float64(ran), c.sqs)
					atMost(t, c.name+", dollars per million tasks", usd, c.price)
				}
			})
		})
	}
}
