// Command bench measures Gust against bare processes in the same run: whole
// process, durable (synchronous=FULL), on this machine. It prints figures and
// ratios, and ends with 1 when a target of the design is missed.
//
//	go run ./bench                 everything
//	go run ./bench -run chain,hop  some cases
//	go run ./bench -o json         for machines
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"sort"
	"strings"
	"sync"
	"time"
)

// result is one measured quantity.
type result struct {
	Case   string  `json:"case"`
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Target float64 `json:"target,omitempty"` // 0 = none
	// AtLeast says that the target is a lower bound.
	AtLeast bool   `json:"at_least,omitempty"`
	Note    string `json:"note,omitempty"`
}

func (r result) ok() bool {
	return r.Target == 0 || r.AtLeast && r.Value >= r.Target || !r.AtLeast && r.Value <= r.Target
}

type report struct{ results []result }

func (r *report) add(x result) {
	r.results = append(r.results, x)
	mark, target := "  ", ""
	if x.Target != 0 {
		cmp := "<="
		if x.AtLeast {
			cmp = ">="
		}
		target = fmt.Sprintf("target %s %g", cmp, x.Target)
		mark = "ok"
		if !x.ok() {
			mark = "NO"
		}
	}
	fmt.Fprintf(os.Stderr, "%s  %-10s %-52s %10.3f %-8s %-16s %s\n", mark, x.Case, x.What, x.Value, x.Unit, target, x.Note)
}

var cases = []struct {
	name string
	run  func(context.Context, *report) error
}{
	{"chain", benchChain}, {"fan", benchFan}, {"hop", benchHop}, {"wide", benchWide},
	{"start", benchStart}, {"tick", benchTick}, {"alldue", benchAllDue},
}

func main() {
	only := flag.String("run", "", "comma-separated cases: chain, fan, hop, wide, start, tick, alldue (default all)")
	output := flag.String("o", "table", "table or json")
	profile := flag.String("cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := measure(want(*only), *output)
	pprof.StopCPUProfile()
	os.Exit(code)
}

// want reads the list of cases.
func want(only string) map[string]bool {
	want := map[string]bool{}
	for _, n := range strings.Split(only, ",") {
		if n != "" {
			want[n] = true
		}
	}
	return want
}

// measure runs the cases and returns the exit code.
func measure(want map[string]bool, output string) int {
	r := &report{}
	fmt.Fprintf(os.Stderr, "gust bench: %d CPUs, %s\n", runtime.NumCPU(), runtime.Version())
	for _, c := range cases {
		if len(want) > 0 && !want[c.name] {
			continue
		}
		if err := c.run(context.Background(), r); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", c.name, err)
			return 1
		}
	}
	if output == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r.results); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	for _, x := range r.results {
		if !x.ok() {
			return 1
		}
	}
	return 0
}

// spawns runs `bash -c true` n times, width at once, and returns the time it takes.
func spawns(n, width int) (time.Duration, error) {
	begin := time.Now()
	var wg sync.WaitGroup
	var first error
	var mu sync.Mutex
	todo := make(chan struct{}, n)
	for i := 0; i < n; i++ {
		todo <- struct{}{}
	}
	close(todo)
	for i := 0; i < width; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range todo {
				if err := exec.Command("bash", "-c", "true").Run(); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
	return time.Since(begin), first
}

func percentile(ds []time.Duration, p float64) time.Duration {
	s := append([]time.Duration(nil), ds...)
	sort.Slice(s, func(i, j int) bool { return s[i] < s[j] })
	return s[int(p*float64(len(s)-1))]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
