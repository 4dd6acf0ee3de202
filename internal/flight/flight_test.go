package flight_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/internal/flight"
)

func TestThousandCallersOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		var calls atomic.Int32
		start := time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				v, err := g.Do(t.Context(), "k", time.Minute, func(context.Context) (int, error) {
					calls.Add(1)
					<-time.After(3 * time.Second)
					return 7, nil
				})
				if v != 7 || err != nil {
					t.Errorf("Do() = %v, %v, want 7, nil", v, err)
				}
			})
		}
		wg.Wait()
		if got := calls.Load(); got != 1 {
			t.Errorf("calls = %d, want 1", got)
		}
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("callers were back after %v, want 3s", got)
		}
	})
}

func TestLeadersCancellationFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string]
		fn := func(ctx context.Context) (string, error) {
			select {
			case <-time.After(time.Hour):
				return "done", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		leader, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("user left")
		left := make(chan error)
		go func() {
			_, err := g.Do(leader, "k", 2*time.Hour, fn)
			left <- err
		}()
		synctest.Wait()
		result := make(chan string)
		go func() {
			v, _ := g.Do(t.Context(), "k", 2*time.Hour, fn)
			result <- v
		}()
		synctest.Wait()
		start := time.Now()
		cancel(gone)
		if err := <-left; !errors.Is(err, gone) {
			t.Errorf("leader's error = %v, want its own cause", err)
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("leader left after %v, want at once", got)
		}
		if got := <-result; got != "done" {
			t.Errorf("follower's result = %q, want done", got)
		}
	})
}

func TestCallEndsAtItsOwnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		_, err := g.Do(t.Context(), "k", time.Second, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do() error = %v, want deadline exceeded", err)
		}
	})
}

func TestPanicAndGoexitBecomeErrorsForEveryWaiter(t *testing.T) {
	secret := "s3cr3t"
	for name, fn := range map[string]func(context.Context) (int, error){
		"panic":  func(context.Context) (int, error) { <-time.After(time.Second); panic(secret) },
		"goexit": func(context.Context) (int, error) { <-time.After(time.Second); runtime.Goexit(); return 0, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g flight.Group[int]
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						_, err := g.Do(t.Context(), "k", time.Minute, fn)
						if err == nil || strings.Contains(err.Error(), secret) {
							t.Errorf("Do() error = %v, want one without the panic's value", err)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestCloseWaitsForTheCallInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		var done atomic.Bool
		g.Start(t.Context(), "k", time.Minute, func(context.Context) (int, error) {
			<-time.After(time.Second)
			done.Store(true)
			return 1, nil
		})
		synctest.Wait()
		g.Close()
		if !done.Load() {
			t.Error("Close returned before the call in flight was done")
		}
		_, err := g.Do(t.Context(), "k", time.Minute, func(context.Context) (int, error) { return 1, nil })
		if !errors.Is(err, flight.ErrClosed) {
			t.Errorf("Do() after Close: error = %v, want ErrClosed", err)
		}
	})
}
