package awsemu

import (
	"sort"
	"strings"
	"sync"
	"time"
)

// CPUTimes are the times that handlers computed before each of their calls.
type CPUTimes struct {
	mu sync.Mutex
	by map[string][]time.Duration
}

// Record is a CPU that charges nothing and keeps what was measured. Let one thing
// happen at a time while it is in use: what computes side by side is measured
// twice.
func (c *CPUTimes) Record(function, operation string, real time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string][]time.Duration{}
	}
	k := function + " " + operation
	c.by[k] = append(c.by[k], real)
	return 0
}

// Medians is a CPU that charges the median of what was recorded for a function
// and operation, times scale, whatever it takes now.
func (c *CPUTimes) Medians(scale float64) CPU {
	c.mu.Lock()
	defer c.mu.Unlock()
	median, all := map[string]time.Duration{}, map[string][]time.Duration{}
	mid := func(ds []time.Duration) time.Duration {
		sort.Slice(ds, func(i, j int) bool { return ds[i] < ds[j] })
		return ds[len(ds)/2]
	}
	for k, ds := range c.by {
		f, _, _ := strings.Cut(k, " ")
		all[f] = append(all[f], ds...)
		median[k] = mid(ds)
	}
	for f, ds := range all {
		median[f] = mid(ds)
	}
	return func(function, operation string, _ time.Duration) time.Duration {
		d, ok := median[function+" "+operation]
		if !ok {
			d = median[function]
		}
		return time.Duration(float64(d) * scale)
	}
}

// String lists the medians by function and operation.
func (c *CPUTimes) String() string {
	f := c.Medians(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys []string
	for k := range c.by {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		name, op, _ := strings.Cut(k, " ")
		if op == "" {
			op = "(end)"
		}
		b.WriteString(name + " before " + op + ": " + f(name, strings.TrimSuffix(op, "(end)"), 0).String() + "\n")
	}
	return b.String()
}
