package main

import (
	"fmt"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// field makes the contenders of most benchmarks.
func field(address string) (contenders []contender, err error) {
	for _, make := range []func() (contender, error){
		func() (contender, error) { return bare(address) },
		func() (contender, error) { return ours(address, 1) },
		func() (contender, error) { return theirs(address, 1) },
		func() (contender, error) { return ours(address, 2) },
		func() (contender, error) { return theirs(address, 2) },
	} {
		c, err := make()
		if err != nil {
			stopAll(contenders)
			return nil, err
		}
		contenders = append(contenders, c)
	}
	return contenders, nil
}

// Indexes into what field makes.
const (
	isBare = iota
	isOurs1
	isTheirs1
	isOurs2
	isTheirs2
)

// compare races the field and prints its rates.
func compare(address string, workers int) ([]float64, error) {
	contenders, err := field(address)
	if err != nil {
		return nil, err
	}
	defer stopAll(contenders)
	rates, err := race(workers, contenders...)
	if err != nil {
		return nil, err
	}
	for i, c := range contenders {
		fmt.Printf("  %-26s %9.0f/s  %8.1f us\n", c.name, rates[i], float64(workers)/rates[i]*1e6)
	}
	return rates, nil
}

// ratio prints a ratio beside what it should be.
func ratio(what string, value float64, target string) {
	fmt.Printf("  -> %-58s %5.2f   (%s)\n", what, value, target)
}

func oneWorker(server *lab.Server) error {
	rates, err := compare(server.Addr(), 1)
	if err != nil {
		return err
	}
	ratio("time of ctxlock, majority 1, to SET NX + DEL", rates[isBare]/rates[isOurs1], "at most 1.15")
	ratio("time of ctxlock, majority 2 to majority 1", rates[isOurs1]/rates[isOurs2], "at most 1.6")
	ratio("time of valkeylock, majority 2 to majority 1", rates[isTheirs1]/rates[isTheirs2], "for comparison")
	return nil
}

func manyWorkers(server *lab.Server) error {
	rates, err := compare(server.Addr(), 64)
	if err != nil {
		return err
	}
	ratio("rate of ctxlock to valkeylock, majority 1", rates[isOurs1]/rates[isTheirs1], "at least 1.2")
	ratio("rate of ctxlock to valkeylock, majority 2", rates[isOurs2]/rates[isTheirs2], "at least 1.25")
	return nil
}

func slowLink(server *lab.Server) error {
	proxy, err := lab.NewProxy(server.Addr())
	if err != nil {
		return err
	}
	defer proxy.Close()
	proxy.Delay(500 * time.Microsecond)
	rates, err := compare(proxy.Addr(), 1)
	if err != nil {
		return err
	}
	ratio("time of ctxlock, majority 2 to majority 1", rates[isOurs1]/rates[isOurs2], "at most 1.1")
	ratio("time of valkeylock, majority 2 to majority 1", rates[isTheirs1]/rates[isTheirs2], "for comparison")
	return nil
}
