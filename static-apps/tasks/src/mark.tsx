/** The mark, which leads home. */
export function Mark() {
  return (
    <a className="mark" href="#" aria-label="Tasks: all lists">
      <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
        <path d="M16 2.5 28 9.3v13.4L16 29.5 4 22.7V9.3z" />
        <path d="m10.5 16 4 4 7.5-8" />
      </svg>
      <span>TASKS</span>
    </a>
  )
}
