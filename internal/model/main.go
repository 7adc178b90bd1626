package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
)

func main() {
	traces := flag.Bool("v", false, "print the counterexamples, step by step")
	flag.Parse()
	var after []func() bool // what to print, in order, once it is there
	var work sync.WaitGroup
	room := make(chan struct{}, min(2, runtime.GOMAXPROCS(0)))
	explore := func(s scenario, r rule, report func(outcome) bool) {
		found := make(chan outcome, 1)
		work.Go(func() {
			room <- struct{}{}
			found <- s.run(r)
			<-room
		})
		after = append(after, func() bool { return report(<-found) })
	}
	for _, s := range sound {
		explore(s, allRules, func(o outcome) bool { return reportSound(os.Stdout, s, o) })
	}
	for _, b := range unsound() {
		explore(b.scenario, b.rule, func(o outcome) bool { return reportBroken(os.Stdout, b, o, *traces) })
	}
	bad := 0
	for _, report := range after {
		if !report() {
			bad++
		}
	}
	work.Wait()
	if bad > 0 {
		fmt.Printf("\n%d of %d are not as they should be\n", bad, len(after))
		os.Exit(1)
	}
	fmt.Printf("\n%d models hold in all their states, and %d without one of the rules break as they should (-v prints how)\n", len(sound), len(after)-len(sound))
}
