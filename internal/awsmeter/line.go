package awsmeter

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/awsmeter/prices"
)

// LineKey is the key of the object that makes a log line one of a meter.
const LineKey = "gust_usage"

// LineVersion is the version of the format; readers skip others.
const LineVersion = 1

// Line is what one invocation used, as its log says it.
type Line struct {
	Version  int    `json:"v"`
	Function string `json:"f"`           // awsenv.Worker, …
	Cold     bool   `json:"c,omitempty"` // the first invocation of its sandbox
	// MemoryMB and Arch ("arm64", "x86_64") price the milliseconds.
	MemoryMB int     `json:"mb,omitempty"`
	Arch     string  `json:"a,omitempty"`
	Usage    []Usage `json:"u"`
}

// Usage is what was used for one task instance, run or DAG, or (DagID "") for none.
// In an encoded line one that is not the first and has no DagID is of the DAG and
// run of the one before it: those of a batch are often of one run.
type Usage struct {
	DagID  string `json:"d,omitempty"`
	RunID  string `json:"r,omitempty"`
	TaskID string `json:"t,omitempty"`
	// MapIndex is that of the instance; absent for -1 and without a TaskID.
	MapIndex *int `json:"m,omitempty"`

	Invocations float64 `json:"i,omitempty"`
	Millis      float64 `json:"ms,omitempty"`
	WriteUnits  float64 `json:"w,omitempty"`
	ReadUnits   float64 `json:"rd,omitempty"`
	SQS         float64 `json:"q,omitempty"` // requests of 64 KB
	S3Puts      float64 `json:"sp,omitempty"`
	S3Gets      float64 `json:"sg,omitempty"`
	Secrets     float64 `json:"sm,omitempty"`
	SSM         float64 `json:"ps,omitempty"`
	RunTask     float64 `json:"ecs,omitempty"`
	Throttled   float64 `json:"th,omitempty"`
	Refused     float64 `json:"rf,omitempty"`
	// Calls are all requests, of whatever service.
	Calls float64 `json:"n,omitempty"`
}

// Label is whom it is for.
func (u Usage) Label() Label {
	l := Label{DagID: u.DagID, RunID: u.RunID, TaskID: u.TaskID}
	if u.TaskID != "" {
		l.MapIndex = -1
	}
	if u.MapIndex != nil {
		l.MapIndex = *u.MapIndex
	}
	return l
}

// Add adds the amounts of w.
func (u *Usage) Add(w Usage) {
	a, b := u.amounts(), w.amounts()
	for i := range a {
		*a[i] += *b[i]
	}
}

func (u *Usage) amounts() []*float64 {
	return []*float64{&u.Invocations, &u.Millis, &u.WriteUnits, &u.ReadUnits, &u.SQS, &u.S3Puts, &u.S3Gets, &u.Secrets, &u.SSM, &u.RunTask, &u.Throttled, &u.Refused, &u.Calls}
}

// s3Gets are S3's cheap operations; DELETE is free, the rest is as dear as a PUT.
var s3Gets = map[string]bool{"GetObject": true, "HeadObject": true, "HeadBucket": true}

// UsageOf turns counts into what is billed, by label: DAG, run, task, map index.
func UsageOf(counts map[Key]Counts) []Usage {
	by := map[Label]*Usage{}
	for k, c := range counts {
		u := by[k.Label]
		if u == nil {
			u = &Usage{DagID: k.DagID, RunID: k.RunID, TaskID: k.TaskID}
			if k.TaskID != "" && k.MapIndex != -1 {
				u.MapIndex = &k.MapIndex
			}
			by[k.Label] = u
		}
		u.Throttled += c.Throttled
		u.Refused += c.Refused
		if k.Op == OpInvocation {
			u.Invocations += c.Calls
			u.Millis += float64(c.Time) / float64(time.Millisecond)
			continue
		}
		u.Calls += c.Calls
		switch k.Service {
		case "DynamoDB":
			u.WriteUnits += c.WriteUnits
			u.ReadUnits += c.ReadUnits
		case "SQS":
			u.SQS += c.Requests
		case "S3":
			switch {
			case s3Gets[k.Operation]:
				u.S3Gets += c.Calls
			case !strings.HasPrefix(k.Operation, "Delete") || k.Operation == "DeleteObjects":
				u.S3Puts += c.Calls
			}
		case "Secrets Manager":
			u.Secrets += c.Calls
		case "SSM":
			u.SSM += c.Calls
		case "ECS":
			if k.Operation == "RunTask" {
				u.RunTask += c.Calls
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(by), compareLabels)
	out := make([]Usage, len(keys))
	for i, l := range keys {
		out[i] = *by[l]
		for _, f := range out[i].amounts() {
			*f = math.Round(*f*1000) / 1000 // keeps lines short
		}
	}
	return out
}

func compareLabels(a, b Label) int {
	for _, c := range []int{strings.Compare(a.DagID, b.DagID), strings.Compare(a.RunID, b.RunID), strings.Compare(a.TaskID, b.TaskID), a.MapIndex - b.MapIndex} {
		if c != 0 {
			return c
		}
	}
	return 0
}

// Encode renders the line, with a line feed.
func (l Line) Encode() []byte {
	l.Version = LineVersion
	l.Usage = slices.Clone(l.Usage)
	for i := len(l.Usage) - 1; i > 0; i-- {
		if u, before := &l.Usage[i], l.Usage[i-1]; u.DagID == before.DagID && u.RunID == before.RunID {
			u.DagID, u.RunID = "", ""
		}
	}
	b, err := json.Marshal(map[string]Line{LineKey: l})
	if err != nil {
		panic(err) // numbers and texts
	}
	return append(b, '\n')
}

// ParseLine reads a line of a log; ok is false for one that is not a meter's or of
// another version. Text before the object, such as a time, is skipped.
func ParseLine(b []byte) (l Line, ok bool) {
	s := string(b)
	at := strings.Index(s, `{"`+LineKey+`":`)
	if at < 0 {
		return l, false
	}
	var m map[string]Line
	dec := json.NewDecoder(strings.NewReader(s[at:]))
	if dec.Decode(&m) != nil || m[LineKey].Version != LineVersion {
		return l, false
	}
	l = m[LineKey]
	for i := 1; i < len(l.Usage); i++ {
		if u, before := &l.Usage[i], l.Usage[i-1]; u.DagID == "" {
			u.DagID, u.RunID = before.DagID, before.RunID
		}
	}
	return l, true
}

// Amount is a quantity of something that is billed.
type Amount struct {
	Item     prices.Item
	Quantity float64
}

// Amounts lists what u is billed as; mb and arch are those of its function.
func (u Usage) Amounts(mb int, arch string) []Amount {
	gbs := prices.LambdaGBSecondsX86
	if arch == "arm64" {
		gbs = prices.LambdaGBSecondsARM
	}
	all := []Amount{
		{prices.DynamoDBWriteUnits, u.WriteUnits}, {prices.DynamoDBReadUnits, u.ReadUnits}, {prices.SQSRequests, u.SQS}, {prices.LambdaRequests, u.Invocations},
		{gbs, u.Millis / 1000 * float64(mb) / 1024}, {prices.S3Puts, u.S3Puts}, {prices.S3Gets, u.S3Gets}, {prices.SecretsRequests, u.Secrets}, {prices.SSMRequests, u.SSM},
		{prices.ECSRunTask, u.RunTask},
	}
	return slices.DeleteFunc(all, func(a Amount) bool { return a.Quantity == 0 })
}
