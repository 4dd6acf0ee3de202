package authtrip

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// An Event is something that operators want to know, for logs and metrics. It holds no
// token and no user.
type Event struct {
	// Kind says what happened.
	Kind EventKind
	// Duration is how long it took, 0 where nothing was waited for.
	Duration time.Duration
	// Requests is how many token requests it took.
	Requests int
	// Age is how old the user info is that was handed out.
	Age time.Duration
	// StatusCode and Code are the answer's, where there was one that failed.
	StatusCode int
	Code       string
	// Err is why, where something failed. Its text is safe to log.
	Err error
}

// EventKind names what an [Event] is about.
type EventKind string

// The kinds of [Event].
const (
	// EventSessionStarted: SetToken took the token of a login.
	EventSessionStarted EventKind = "session_started"
	// EventSessionLoggedOut: Forget ended a session.
	EventSessionLoggedOut EventKind = "session_logged_out"
	// EventTokenObtained: the first token came, from a grant or from the Store.
	EventTokenObtained EventKind = "token_obtained"
	// EventTokenRefreshed: a token was replaced by a refresh, and stored.
	EventTokenRefreshed EventKind = "token_refreshed"
	// EventTokenLoaded: a newer token of another process was loaded from the Store.
	EventTokenLoaded EventKind = "token_loaded"
	// EventSessionExpiring: a token was refreshed, and the new refresh token expires within
	// a day. The user has to log in by then.
	EventSessionExpiring EventKind = "session_expiring"
	// EventTokenRejected: an API answered 401 to the token.
	EventTokenRejected EventKind = "token_rejected"
	// EventRefreshFailed: a refresh failed, and is tried again later.
	EventRefreshFailed EventKind = "refresh_failed"
	// EventRefreshUnknown: a refresh token was sent and no usable answer came.
	EventRefreshUnknown EventKind = "refresh_outcome_unknown"
	// EventReauthRequired: the user has to log in again.
	EventReauthRequired EventKind = "reauth_required"
	// EventTokenUnsaved: a new token came and the Store did not take it. It is handed
	// out all the same, because no refresh token was used for it, or because
	// AllowRefreshWithoutStore is set.
	EventTokenUnsaved EventKind = "token_unsaved"
	// EventTokenNotSaved: a new token came and the Store did not take it. It is kept in
	// memory, and nobody gets it before the Store has taken it.
	EventTokenNotSaved EventKind = "token_not_saved"
	// EventRequestRetried: a rejected request was sent again with another token. If Code is
	// set, the proof of possession was rejected for it, and another proof was sent.
	EventRequestRetried EventKind = "request_retried"
	// EventRequestNotRetried: a rejected request was not sent again; Err says why.
	EventRequestNotRetried EventKind = "request_not_retried"
	// EventUserInfoHit: user info came from memory or the Cache.
	EventUserInfoHit EventKind = "userinfo_hit"
	// EventUserInfoMiss: user info was fetched.
	EventUserInfoMiss EventKind = "userinfo_miss"
	// EventUserInfoStale: the last good copy was handed out, as a fetch had failed.
	EventUserInfoStale EventKind = "userinfo_stale"
	// EventUserInfoFailed: a fetch failed.
	EventUserInfoFailed EventKind = "userinfo_failed"
	// EventUserInfoCacheFailed: a Cache, or Users, failed, and was ignored.
	EventUserInfoCacheFailed EventKind = "userinfo_cache_failed"
)

// Events returns an OnEvent hook that calls all hooks, in their order. A nil one is
// ignored.
func Events(hooks ...func(Event)) func(Event) {
	return func(e Event) {
		for _, hook := range hooks {
			if hook != nil {
				hook(e)
			}
		}
	}
}

// LogEvents returns an OnEvent hook that writes to l: success at level Debug, recovered
// problems at Info, failures at Warn, and at Error what ends a session or can lose a
// token. If l is nil, it is [slog.Default].
func LogEvents(l *slog.Logger) func(Event) {
	return func(e Event) {
		to := l
		if to == nil {
			to = slog.Default()
		}
		attrs := []slog.Attr{slog.String("event", string(e.Kind))}
		if e.Duration > 0 {
			attrs = append(attrs, slog.Duration("duration", e.Duration))
		}
		if e.Requests > 0 {
			attrs = append(attrs, slog.Int("requests", e.Requests))
		}
		if e.Age > 0 {
			attrs = append(attrs, slog.Duration("age", e.Age))
		}
		if e.StatusCode != 0 {
			attrs = append(attrs, slog.Int("status", e.StatusCode))
		}
		if e.Code != "" {
			attrs = append(attrs, slog.String("code", e.Code))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
		to.LogAttrs(context.Background(), e.level(), "authtrip", attrs...)
	}
}

func (e Event) level() slog.Level {
	switch e.Kind {
	case EventReauthRequired:
		if errors.Is(e.Err, ErrNoSession) || errors.Is(e.Err, ErrLoggedOut) {
			return slog.LevelInfo // nothing has ended just now
		}
		return slog.LevelError
	case EventTokenNotSaved, EventTokenUnsaved:
		return slog.LevelError
	case EventRefreshFailed, EventRefreshUnknown, EventRequestNotRetried, EventUserInfoFailed, EventUserInfoCacheFailed:
		return slog.LevelWarn
	case EventSessionExpiring, EventTokenRejected, EventRequestRetried, EventTokenLoaded, EventUserInfoStale:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
