// Command benchmarks runs ctxlock and its peers side by side on servers that it starts, in alternating rounds, and writes a table, charts
// and a verdict on each target.
//
//	go run . [-out results] [-rounds 3] [-time 300ms] [-trip 0] [-only TEXT]
//
// The whole takes under ten minutes; its scenarios are in scenario.go, and studies, some of which run only when -only names them, in study.go.
// Machines are noisy: the ratios within one run say something, figures from two runs compared do not.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

var (
	out    = flag.String("out", "results", "folder for results.md, results.json and the charts")
	rounds = flag.Int("rounds", 3, "rounds of each contender; the median counts")
	length = flag.Duration("time", 300*time.Millisecond, "how long one round of one contender takes; some take a multiple")
	trip   = flag.Duration("trip", -1, "only this round trip: 0, 1ms or 10ms")
	only   = flag.String("only", "", "only the scenarios and studies whose names contain this; some studies run only so")
)

func main() {
	if runChild() {
		return
	}
	flag.Parse()
	if err := runAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runAll() error {
	p, err := openPark()
	if err != nil {
		return err
	}
	defer p.close()
	go closeOnSignal(p)
	s := &suite{park: p, progress: os.Stderr, rounds: *rounds, warm: *length / 4, length: *length, tripOnly: *trip}
	list, extra := chosen(*only), chosenStudies(*only)
	if len(list)+len(extra) == 0 {
		return fmt.Errorf("no scenario or study has %q in its name: see scenario.go and study.go", *only)
	}
	fmt.Fprintf(os.Stderr, "%s; %d scenarios, about %v", p.serverName(), len(list), s.estimate(list).Round(time.Second))
	if len(extra) > 0 {
		fmt.Fprintf(os.Stderr, "; then %d studies", len(extra))
	}
	fmt.Fprintln(os.Stderr)
	start := time.Now()
	for _, sc := range list {
		if err := s.run(sc); err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
	}
	if len(list) > 0 {
		if err := s.report(list, time.Since(start)); err != nil {
			return err
		}
	}
	return runStudies(p, extra)
}

// closeOnSignal leaves nothing behind when somebody has seen enough.
func closeOnSignal(p *park) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
	p.close()
	os.Exit(1)
}
