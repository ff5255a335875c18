import { createRoot } from "react-dom/client"

import { App } from "./app.tsx"
import "./style.css"
import { register } from "./update.ts"

createRoot(document.getElementById("root")!).render(<App />)
void register()
