// Command benchmarks runs ctxlock, valkeylock and the bare commands side by side on a server that it starts, in alternating
// rounds, and prints medians and their ratios, each beside what it should be.
//
//	go run . [-rounds 5] [-time 400ms] [-only name]
//
// Machines are noisy: the ratios within one run say something, figures from two runs compared do not.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

var (
	rounds = flag.Int("rounds", 5, "rounds of each contender; the median counts")
	length = flag.Duration("time", 400*time.Millisecond, "how long one round of one contender takes")
	only   = flag.String("only", "", "run only the benchmarks whose names contain this")
)

// benchmark is one comparison. It prints its own lines.
type benchmark struct {
	name string
	run  func(*lab.Server) error
}

var all = []benchmark{
	{"one worker", oneWorker},
	{"64 workers", manyWorkers},
	{"round trip of 1 ms", slowLink},
	{"held locks", heldLocks},
	{"idle waiters", idleWaiters},
	{"allocations", allocations},
	{"handles", handles},
	{"failover", failover},
	{"paths", paths},
}

func main() {
	flag.Parse()
	server, err := lab.Start(lab.Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer server.Stop()
	fmt.Printf("server: %v; %d rounds of %v, medians\n", server.Binary, *rounds, *length)
	for _, b := range all {
		if !strings.Contains(b.name, *only) {
			continue
		}
		fmt.Printf("\n%s\n", b.name)
		if err := b.run(server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			server.Stop()
			os.Exit(1)
		}
	}
}
