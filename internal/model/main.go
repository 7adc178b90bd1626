package main

import (
	"os"
	"runtime"
	"sync"
)

func main() {
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
		explore(b.scenario, b.rule, func(o outcome) bool { return reportBroken(os.Stdout, b, o) })
	}
	good := true
	for _, report := range after {
		good = report() && good
	}
	work.Wait()
	if !good {
		os.Exit(1)
	}
}
