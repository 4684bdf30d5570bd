package awsemu

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed aws-latency.json
var defaultLatencies []byte

// LatencyVariable names another file of the same shape as aws-latency.json.
const LatencyVariable = "GUST_LATENCY"

// Quantiles are those of a latency, in milliseconds.
type Quantiles struct {
	P10 float64 `json:"p10"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// Latencies are distributions by path, and how fast things grow.
type Latencies struct {
	About string               `json:"about"`
	Unit  string               `json:"unit"`
	Paths map[string]Quantiles `json:"paths"`
	Ramps Ramps                `json:"ramps"`
}

// Ramps are limits on growth.
type Ramps struct {
	SQSDefault struct {
		Initial   float64 `json:"initial_concurrency"`
		PerMinute float64 `json:"add_per_minute"`
	} `json:"sqs_standard_default"`
	NewTable  Rates `json:"dynamodb_new_on_demand_table_units_per_s"`
	Partition Rates `json:"dynamodb_partition_units_per_s"`
	Lambda    struct {
		Add        float64 `json:"add"`
		PerSeconds float64 `json:"per_seconds"`
	} `json:"lambda_concurrency_scaling"`
}

// Rates are capacity units a second.
type Rates struct {
	Write float64 `json:"write"`
	Read  float64 `json:"read"`
}

// Paths that the emulation draws from. A path that the file lacks falls back as
// fallbacks says.
const (
	pathPut      = "dynamodb.PutItem"
	pathSQS      = "sqs.standard.send_to_handler"
	pathAsync    = "lambda.async_invoke_to_handler"
	pathBus      = "eventbridge.bus_to_handler"
	pathSQSSend  = "sqs.SendMessageBatch"
	pathCold     = "lambda.cold_start"
	pathInvoke   = "lambda.Invoke.Event"
	pathS3       = "s3.Object"
	transactFew  = "dynamodb.TransactWriteItems.5"
	transactMany = "dynamodb.TransactWriteItems.25"
	batchFew     = "dynamodb.BatchWriteItem.5"
	batchMany    = "dynamodb.BatchWriteItem.25"
)

// assumed are distributions that no published table gives; a file may have them.
// The answer to a send comes about half way to the handler. A cold start is Init
// as published for Go with provided.al2023 (40 to 50 ms) and as much again for the
// sandbox and the code, twice to four times that in the tail.
var assumed = map[string]Quantiles{
	pathSQSSend: {P10: 5, P50: 7, P90: 14, P99: 45},
	pathInvoke:  {P10: 12, P50: 18, P90: 30, P99: 70}, // until an event is accepted
	pathCold:    {P10: 80, P50: 110, P90: 180, P99: 400},
	pathS3:      {P10: 10, P50: 18, P90: 40, P99: 120},
}

// LoadLatencies reads the file that GUST_LATENCY names, or the one that was
// published with this program.
func LoadLatencies() (*Latencies, error) {
	b, name := defaultLatencies, "aws-latency.json"
	if f := os.Getenv(LatencyVariable); f != "" {
		var err error
		if b, err = os.ReadFile(f); err != nil {
			return nil, fmt.Errorf("%s: %w", LatencyVariable, err)
		}
		name = f
	}
	l, err := ReadLatencies(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// ReadLatencies reads and checks a file; all problems are reported at once.
func ReadLatencies(b []byte) (*Latencies, error) {
	var l Latencies
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, err
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if l.Unit != "ms" {
		bad(`unit is %q: expected "ms"`, l.Unit)
	}
	for _, p := range []string{pathPut, pathSQS, pathAsync, pathBus, transactFew, transactMany} {
		if _, ok := l.Paths[p]; !ok {
			bad("paths: %s is missing", p)
		}
	}
	for p, q := range l.Paths {
		if !(q.P10 > 0 && q.P10 <= q.P50 && q.P50 <= q.P90 && q.P90 <= q.P99) {
			bad("paths: %s: expected 0 < p10 <= p50 <= p90 <= p99", p)
		}
	}
	r := l.Ramps
	for name, v := range map[string]float64{
		"sqs_standard_default.initial_concurrency": r.SQSDefault.Initial, "sqs_standard_default.add_per_minute": r.SQSDefault.PerMinute,
		"dynamodb_new_on_demand_table_units_per_s.write": r.NewTable.Write, "dynamodb_new_on_demand_table_units_per_s.read": r.NewTable.Read,
		"dynamodb_partition_units_per_s.write": r.Partition.Write, "dynamodb_partition_units_per_s.read": r.Partition.Read,
		"lambda_concurrency_scaling.add": r.Lambda.Add, "lambda_concurrency_scaling.per_seconds": r.Lambda.PerSeconds,
	} {
		if v <= 0 {
			bad("ramps: %s: expected a number above 0", name)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &l, nil
}

// of returns the distribution of a path.
func (l *Latencies) of(path string) Quantiles {
	if q, ok := l.Paths[path]; ok {
		return q
	}
	if q, ok := assumed[path]; ok {
		return q
	}
	for few, many := range map[string]string{transactFew: transactMany, batchFew: batchMany} {
		stem := strings.TrimSuffix(few, "5")
		if n, err := strconv.Atoi(strings.TrimPrefix(path, stem)); err == nil && strings.HasPrefix(path, stem) {
			return between(l.of(few), l.of(many), (float64(n)-5)/20)
		}
	}
	return l.Paths[pathPut] // as the file says of GetItem and Query
}

// between interpolates; w below 0 is a, above 1 goes on along the same line.
func between(a, b Quantiles, w float64) Quantiles {
	w = max(0, w)
	mix := func(x, y float64) float64 { return x + w*(y-x) }
	return Quantiles{mix(a.P10, b.P10), mix(a.P50, b.P50), mix(a.P90, b.P90), mix(a.P99, b.P99)}
}

// At returns the latency below which the share u of all lie: logarithmic between
// the quantiles, and beyond them with the slope of the outermost pair, to the
// 0.1th and the 99.9th of a hundred at most.
func (q Quantiles) At(u float64) time.Duration {
	u = min(max(u, 0.001), 0.999)
	z := normal(u)
	xs := [4]float64{normal(0.10), normal(0.50), normal(0.90), normal(0.99)}
	ys := [4]float64{math.Log(q.P10), math.Log(q.P50), math.Log(q.P90), math.Log(q.P99)}
	i := 0
	for i < 2 && z > xs[i+1] {
		i++
	}
	y := ys[i] + (z-xs[i])/(xs[i+1]-xs[i])*(ys[i+1]-ys[i])
	return time.Duration(math.Exp(y) * float64(time.Millisecond))
}

// normal is the quantile function of the normal distribution.
func normal(u float64) float64 { return math.Sqrt2 * math.Erfinv(2*u-1) }

// dice draws numbers that depend on a seed and on what they are for, not on the
// order in which goroutines ask.
type dice struct {
	seed uint64
	mu   sync.Mutex
	n    map[string]uint64
}

func newDice(seed uint64) *dice { return &dice{seed: seed, n: map[string]uint64{}} }

// roll returns the next number in (0, 1) for key.
func (d *dice) roll(key string) float64 {
	d.mu.Lock()
	n := d.n[key]
	d.n[key]++
	d.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return rand.New(rand.NewPCG(d.seed, h.Sum64()^(n*0x9E3779B97F4A7C15))).Float64()
}
